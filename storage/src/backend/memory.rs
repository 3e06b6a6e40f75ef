//! Maps, with faults on command.
