/// A value as the source holds it, before the gate.
///
/// It has no `Debug`, `Display`, `Serialize` or `Clone` to a log: the only way in is [`Raw::expose`], whose name a test
/// looks for, so that nothing but decoders and the gate reads raw values.
pub struct Raw<T>(T);

impl<T> Raw<T> {
    /// Marks `value` as raw.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The raw value, for a decoder or the gate.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// Consumes the mark, for a decoder or the gate.
    pub fn into_exposed(self) -> T {
        self.0
    }
}
