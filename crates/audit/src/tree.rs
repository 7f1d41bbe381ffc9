//! The Merkle tree of RFC 6962 section 2.1, over the hashes and MACs of entries.

use crate::Hash;

/// The tree over all leaves so far, as the roots of its complete subtrees from the largest to the smallest: all that is needed to add
/// leaves and to tell the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    leaves: u64,
    peaks: Vec<Hash>,
}

impl Tree {
    /// The tree with these complete subtrees; `None` when their number does not fit that of the leaves.
    pub(crate) fn resume(leaves: u64, peaks: Vec<Hash>) -> Option<Self> {
        (leaves.count_ones() as usize == peaks.len()).then_some(Self { leaves, peaks })
    }

    pub(crate) fn leaves(&self) -> u64 {
        self.leaves
    }

    pub(crate) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    pub(crate) fn push(&mut self, leaf: &Hash) {
        let mut node = Hash::of(&[&[0], &leaf.0]);
        // A subtree is complete with every carry of the binary count.
        for _ in 0..self.leaves.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = parent(&left, &node);
            }
        }
        self.peaks.push(node);
        self.leaves += 1;
    }

    /// The root; that of no leaves is the hash of nothing.
    pub(crate) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Hash::of(&[]) };
        peaks.fold(*last, |right, left| parent(left, &right))
    }
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    Hash::of(&[&[1], &left.0, &right.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of RFC 6962, word by word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(&[]),
            [leaf] => Hash::of(&[&[0], &leaf.0]),
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                parent(&defined(&leaves[..half]), &defined(&leaves[half..]))
            }
        }
    }

    #[test]
    fn every_root_is_that_of_the_definition() {
        let leaves: Vec<Hash> = (0_u32..130).map(|number| Hash::of(&[&number.to_be_bytes()])).collect();
        let mut tree = Tree::default();
        for count in 0..leaves.len() {
            assert_eq!(tree.root(), defined(&leaves[..count]), "{count} leaves");
            assert_eq!(Tree::resume(count as u64, tree.peaks().to_vec()), Some(tree.clone()));
            tree.push(&leaves[count]);
        }
        assert_eq!(Tree::resume(3, vec![Hash([0; 32])]), None);
    }
}
