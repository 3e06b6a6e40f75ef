//! Buckets, through `object_store`.
