//! What the models know of a store: records under compare-and-swap, each request one indivisible step.

/// A record. Versions are never used twice, so all that matters of a version that a process has read is whether it is still the
/// current one: one bit for each process, cleared by every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Record<T> {
    value: Option<T>,
    /// Removed, where removing leaves an empty object.
    pub(crate) tombstone: bool,
    holders: u16,
}

impl<T: Copy> Record<T> {
    pub(crate) fn absent() -> Self {
        Self { value: None, tombstone: false, holders: 0 }
    }

    pub(crate) fn present(value: T) -> Self {
        Self { value: Some(value), tombstone: false, holders: 0 }
    }

    /// What is there, for properties and for what is decided without a later write.
    pub(crate) fn peek(&self) -> Option<T> {
        self.value
    }

    /// A read by `process`, which may present the version later.
    pub(crate) fn read(&mut self, process: usize) -> Option<T> {
        self.holders |= 1 << process;
        self.value
    }

    /// `process` will not present what it has read any more.
    pub(crate) fn release(&mut self, process: usize) {
        self.holders &= !(1 << process);
    }

    /// Whether what `process` read is still there.
    pub(crate) fn current(&self, process: usize) -> bool {
        self.holders & (1 << process) != 0
    }

    fn write(&mut self, value: Option<T>) {
        self.tombstone = value.is_none();
        self.value = value;
        self.holders = 0;
    }

    /// Writes if nothing is there.
    pub(crate) fn create(&mut self, value: T) -> bool {
        let free = self.value.is_none();
        if free {
            self.write(Some(value));
        }
        free
    }

    /// Writes over the version that `process` read.
    pub(crate) fn update(&mut self, process: usize, value: T) -> bool {
        let current = self.current(process);
        if current {
            self.write(Some(value));
        }
        current
    }

    /// Removes the version that `process` read.
    pub(crate) fn remove(&mut self, process: usize) -> bool {
        let current = self.current(process);
        if current {
            self.write(None);
        }
        current
    }

    /// Writes whatever is there.
    pub(crate) fn overwrite(&mut self, value: Option<T>) {
        self.write(value);
    }

    /// `other` will present the same version as `process`.
    pub(crate) fn holds_too(&mut self, process: usize, other: usize) {
        self.release(other);
        self.holders |= u16::from(self.current(process)) << other;
    }

    /// Removes whatever is there.
    pub(crate) fn remove_whatever(&mut self) {
        self.write(None);
    }

    /// Time changes what a record means without a write: its version stays.
    pub(crate) fn passes(&mut self, change: impl FnOnce(&mut T)) {
        if let Some(value) = &mut self.value {
            change(value);
        }
    }
}
