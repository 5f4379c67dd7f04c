//! Moving things inside and between the arrays of nodes. Cells behind the counted ones hold `empty` and nothing else.

/// Puts `value` at `at` and moves what stood there and behind one further. `len` cells were in use, fewer than there are.
pub(super) fn insert<T>(cells: &mut [T], len: usize, at: usize, value: T) {
    cells[at..=len].rotate_right(1);
    cells[at] = value;
}

/// Takes what is at `at` and closes the hole. `len` cells were in use.
pub(super) fn remove<T>(cells: &mut [T], len: usize, at: usize, empty: T) -> T {
    cells[at..len].rotate_left(1);
    core::mem::replace(&mut cells[len - 1], empty)
}

/// Moves the first `n` of the `right_len` cells in `right` behind the `left_len` in `left`.
pub(super) fn move_left<T>(left: &mut [T], left_len: usize, right: &mut [T], right_len: usize, n: usize) {
    left[left_len..left_len + n].swap_with_slice(&mut right[..n]);
    right[..right_len].rotate_left(n);
}

/// Moves the last `n` of the `left_len` cells in `left` before the `right_len` in `right`.
pub(super) fn move_right<T>(left: &mut [T], left_len: usize, right: &mut [T], right_len: usize, n: usize) {
    right[..right_len + n].rotate_right(n);
    left[left_len - n..left_len].swap_with_slice(&mut right[..n]);
}
