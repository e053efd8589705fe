//! Who asks whom for an extent: a forest of mirrored pairs of binary trees over all nodes.
//!
//! The tree of an extent is its number modulo [`TREES`], for everybody and for good. Trees `2j` and `2j + 1` share a
//! point of the ring of hashed node names, `j / 32` of the way round. In the even tree the nodes are ranked by how far
//! they lie behind that point, in the odd one exactly the other way round: who has children in one is a leaf in the
//! other, so everybody uploads about as much as it downloads.
//!
//! A rank depends on the node and the tree alone, never on who else is there. A parent's rank is therefore smaller than
//! its child's **in every view of the membership**, and neither loops of requests nor circles of waiting nodes can form
//! while views differ. Nothing here panics.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use vmthunder_volume::Extent;

/// Trees in the forest: half of them pairwise mirror the other half.
pub const TREES: u8 = 64;

/// The permanent name of a node: never its address, nor the generation of its process.
#[derive(Clone, PartialOrd, Ord)]
pub struct NodeName {
    name: Arc<str>,
    hash: u64,
}

/// Why a text is no name of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// It is empty.
    #[error("the name is empty")]
    Empty,
    /// It is longer than [`NodeName::MAX_BYTES`].
    #[error("the name is longer than {} bytes", NodeName::MAX_BYTES)]
    TooLong,
    /// It holds something else than letters, digits, `.`, `-`, `_` and `:`.
    #[error("the name may hold letters, digits, '.', '-', '_' and ':' only")]
    Character,
}

impl NodeName {
    /// The longest name.
    pub const MAX_BYTES: usize = 128;

    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, NodeNameError> {
        if name.is_empty() {
            return Err(NodeNameError::Empty);
        }
        if name.len() > Self::MAX_BYTES {
            return Err(NodeNameError::TooLong);
        }
        if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte))
        {
            return Err(NodeNameError::Character);
        }
        let digest = blake3::hash(name.as_bytes());
        let hash = digest
            .as_bytes()
            .iter()
            .take(8)
            .fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        Ok(Self {
            name: name.into(),
            hash,
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The place on the ring: the first eight bytes of the name's BLAKE3, most significant first.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for NodeName {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}

impl Eq for NodeName {}

impl Hash for NodeName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

/// A tree of the forest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tree(u8);

impl Tree {
    /// The tree in which an extent travels.
    pub fn of(extent: Extent) -> Self {
        Self(u8::try_from(extent.0 % u64::from(TREES)).unwrap_or_default())
    }

    /// All trees.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..TREES).map(Self)
    }

    /// The tree's number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// True for the second tree of a pair, which mirrors the first.
    pub fn is_mirror(self) -> bool {
        self.0 % 2 == 1
    }

    /// The point of the ring from which ranks are counted; the same for both trees of a pair.
    fn offset(self) -> u64 {
        u64::from(self.0 / 2) << (u64::BITS - (TREES / 2).trailing_zeros())
    }
}

/// Whom a node asks in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Parent {
    /// Another node.
    Node(NodeName),
    /// The node is the root: it reads from the origin.
    Origin,
}

/// One view of the nodes that are attached to an image, as a forest. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Sorted by hash, then by name; no name twice.
    ring: Arc<[NodeName]>,
}

impl Forest {
    /// The forest over these members; names given twice count once.
    pub fn new(members: &[NodeName]) -> Self {
        let mut ring = members.to_vec();
        ring.sort_by(on_ring);
        ring.dedup();
        Self { ring: ring.into() }
    }

    /// The members, in the order of the ring.
    pub fn members(&self) -> &[NodeName] {
        &self.ring
    }

    /// Whom `me` asks in a tree, when those in `absent` are left out. A node never leaves itself out, and counts itself
    /// even if the view does not hold it yet.
    pub fn parent(&self, me: &NodeName, tree: Tree, absent: &[NodeName]) -> Parent {
        self.path(me, tree, absent).next().unwrap_or(Parent::Origin)
    }

    /// The way from `me` to the origin: parent, its parent, and so on; the last one is the origin.
    pub fn path<'a>(
        &'a self,
        me: &NodeName,
        tree: Tree,
        absent: &[NodeName],
    ) -> impl Iterator<Item = Parent> + use<'a> {
        let (position, gaps) = self.position(me, tree, absent);
        let mut below = Some(position);
        std::iter::from_fn(move || {
            let position = below?.checked_sub(1).map(|less| less / 2);
            below = position;
            let node = position.and_then(|position| self.ranked(tree, skip(position, &gaps)));
            Some(node.map_or(Parent::Origin, |node| Parent::Node(node.clone())))
        })
    }

    /// How many nodes lie between `me` and the origin.
    pub fn depth(&self, me: &NodeName, tree: Tree, absent: &[NodeName]) -> u32 {
        (self.position(me, tree, absent).0 + 1).ilog2()
    }

    /// How many present members have a smaller rank than `me`, and the places of those that are absent, in order.
    fn position(&self, me: &NodeName, tree: Tree, absent: &[NodeName]) -> (usize, Vec<usize>) {
        let (place, _) = self.place(me, tree);
        let mut gaps: Vec<usize> = absent
            .iter()
            .map(|node| self.place(node, tree))
            .filter(|(gap, is_member)| *is_member && *gap < place)
            .map(|(gap, _)| gap)
            .collect();
        gaps.sort_unstable();
        gaps.dedup();
        (place - gaps.len(), gaps)
    }

    /// How many members have a smaller rank than a node, and whether it is one of them.
    fn place(&self, node: &NodeName, tree: Tree) -> (usize, bool) {
        let found = self.ring.binary_search_by(|other| on_ring(other, node));
        let (is_member, at) = (found.is_ok(), found.unwrap_or_else(|at| at));
        let start = self.start(tree);
        // The ring is gone round once, from the tree's point on.
        let ahead = match node.hash >= tree.offset() {
            true => at.saturating_sub(start),
            false => self.ring.len() - start + at,
        };
        if tree.is_mirror() {
            let others = self.ring.len() - usize::from(is_member);
            (others - ahead, is_member)
        } else {
            (ahead, is_member)
        }
    }

    /// The member before whom so many have a smaller rank.
    fn ranked(&self, tree: Tree, place: usize) -> Option<&NodeName> {
        let ahead = match tree.is_mirror() {
            true => self.ring.len().checked_sub(place + 1)?,
            false => place,
        };
        let (behind, from) = self.ring.split_at(self.start(tree));
        from.iter().chain(behind).nth(ahead)
    }

    fn start(&self, tree: Tree) -> usize {
        self.ring.partition_point(|node| node.hash < tree.offset())
    }
}

/// The place of the present member at a position, given the places of the absent ones in order.
fn skip(position: usize, gaps: &[usize]) -> usize {
    gaps.iter()
        .fold(position, |place, gap| place + usize::from(*gap <= place))
}

fn on_ring(a: &NodeName, b: &NodeName) -> Ordering {
    a.hash.cmp(&b.hash).then_with(|| a.name.cmp(&b.name))
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
#[path = "forest_tests.rs"]
mod tests;
