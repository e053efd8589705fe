//! The promises of the forest, for every view of the membership.

use std::collections::BTreeMap;

use proptest::prelude::{
    ProptestConfig, Strategy, any, prop, prop_assert, prop_assert_eq, proptest,
};

use super::{Forest, NodeName, Parent, Tree};

fn names(count: usize) -> Vec<NodeName> {
    (0..count)
        .map(|n| NodeName::new(&format!("node-{n}")).unwrap())
        .collect()
}

/// The order of the design's text, spelled out: x = frac(hash - j/32), 1 - x in the odd tree.
fn rank(node: &NodeName, tree: Tree) -> f64 {
    let whole = 2f64.powi(64);
    let x = (node.hash() as f64 / whole - f64::from(tree.number() / 2) / 32.0).rem_euclid(1.0);
    if tree.number().is_multiple_of(2) {
        x
    } else {
        1.0 - x
    }
}

const NOBODY: &[NodeName] = &[];

#[test]
fn a_name_stands_where_its_blake3_puts_it() {
    // BLAKE3 of the one byte "a" begins 17 76 2f dd d9 69 a4 53.
    assert_eq!(NodeName::new("a").unwrap().hash(), 0x1776_2fdd_d969_a453);
}

#[test]
fn the_forest_is_the_one_of_the_design() {
    let nodes = names(40);
    let forest = Forest::new(&nodes);
    for tree in Tree::all() {
        let mut sorted = nodes.clone();
        sorted.sort_by(|a, b| rank(a, tree).total_cmp(&rank(b, tree)));
        for (position, node) in sorted.iter().enumerate() {
            let expected = match position {
                0 => Parent::Origin,
                _ => Parent::Node(sorted[(position - 1) / 2].clone()),
            };
            assert_eq!(forest.parent(node, tree, NOBODY), expected);
            assert_eq!(
                forest.path(node, tree, NOBODY).count(),
                forest.depth(node, tree, NOBODY) as usize + 1
            );
        }
    }
}

#[test]
fn a_path_ends_at_the_origin_and_leaves_the_absent_out() {
    let nodes = names(100);
    let forest = Forest::new(&nodes);
    let is_absent = |node: &NodeName| node.hash().is_multiple_of(3);
    let absent: Vec<NodeName> = nodes
        .iter()
        .filter(|node| is_absent(node))
        .cloned()
        .collect();
    for (tree, me) in Tree::all().zip(&nodes) {
        let path: Vec<Parent> = forest.path(me, tree, &absent).collect();
        assert_eq!(path.last(), Some(&Parent::Origin));
        assert!(
            path.iter()
                .all(|parent| !matches!(parent, Parent::Node(node) if is_absent(node)))
        );
    }
}

/// A set of members and of absent ones, out of forty.
fn view() -> impl Strategy<Value = (Vec<bool>, Vec<bool>)> {
    (
        prop::collection::vec(any::<bool>(), 40),
        prop::collection::vec(any::<bool>(), 40),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn requests_run_down_the_ranks_in_every_view(views in prop::collection::vec(view(), 40)) {
        // Each node asks by a view of its own, and still rank falls along every edge: no loop can close.
        let nodes = names(40);
        for tree in Tree::all() {
            for (me, (members, absent)) in nodes.iter().zip(&views) {
                let seen: Vec<NodeName> =
                    nodes.iter().zip(members).filter(|(_, member)| **member).map(|(node, _)| node.clone()).collect();
                let is_absent = |node: &NodeName| nodes.iter().position(|other| other == node).is_some_and(|at| absent[at]);
                let left_out: Vec<NodeName> = nodes.iter().filter(|node| is_absent(node)).cloned().collect();
                for parent in Forest::new(&seen).path(me, tree, &left_out) {
                    if let Parent::Node(parent) = parent {
                        prop_assert!(rank(&parent, tree) < rank(me, tree));
                        prop_assert!(!is_absent(&parent));
                    }
                }
            }
        }
    }

    #[test]
    fn who_has_children_in_one_tree_is_a_leaf_in_its_mirror(count in 1usize..100) {
        let nodes = names(count);
        let forest = Forest::new(&nodes);
        let mut children: BTreeMap<(NodeName, u8), u32> = BTreeMap::new();
        for tree in Tree::all() {
            for node in &nodes {
                if let Parent::Node(parent) = forest.parent(node, tree, NOBODY) {
                    *children.entry((parent, tree.number())).or_default() += 1;
                }
            }
        }
        let of = |node: &NodeName, tree: u8| children.get(&(node.clone(), tree)).copied().unwrap_or_default();
        for node in &nodes {
            for even in (0..64).step_by(2) {
                prop_assert!(of(node, even) == 0 || of(node, even + 1) == 0);
                prop_assert!(of(node, even) <= 2);
            }
            // Perfect balance is one child per tree: 64 in the whole forest. A pair gives two or, near the middle, fewer.
            let uploads: u32 = (0..64).map(|tree| of(node, tree)).sum();
            prop_assert!(uploads <= 64);
        }
        let total: u32 = children.values().sum();
        let roots = u32::try_from(nodes.len()).unwrap();
        prop_assert_eq!(total, 64 * (roots - 1));
    }
}

#[test]
fn names_are_checked() {
    for name in ["", "a b", "a/b", "ä", &"x".repeat(129)] {
        assert!(NodeName::new(name).is_err(), "{name}");
    }
    assert!(NodeName::new("rack-1.node_7:a").is_ok());
}
