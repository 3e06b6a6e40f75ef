use std::{fmt, sync::Arc};

use parking_lot::RwLock;

/// A setting that a reload replaces. What began under the old value ends under it.
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    /// Its first value.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The value now.
    pub fn now(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Another value from now on.
    pub fn set(&self, value: T) {
        *self.0.write() = Arc::new(value);
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}
