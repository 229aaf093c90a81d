//! Random order without repetition.

use fastrand::Rng;

/// Gives the elements of a list in random order, each once before any comes again, so that a small budget has all of them.
#[derive(Debug, Default)]
pub(super) struct Bag(Vec<usize>);

impl Bag {
    /// The next element; none if the list is empty. A bag is for one list.
    pub(super) fn draw<'a, T>(&mut self, rng: &mut Rng, from: &'a [T]) -> Option<&'a T> {
        if self.0.is_empty() {
            self.0 = (0..from.len()).collect();
            rng.shuffle(&mut self.0);
        }
        from.get(self.0.pop()?)
    }
}
