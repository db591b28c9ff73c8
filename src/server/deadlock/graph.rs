//! The graph of waiting callers, and the search for deadlocks in it. It is pure and knows no manager.
//!
//! A caller can proceed if it does not wait, or if any of its waits could be granted once other callers
//! that can proceed have released what they hold. The search repeats this step until no further caller
//! can proceed; the remaining callers wait for one another. Among them, the strongly connected groups
//! that depend on no other group are the deadlocks.
//!
//! Invariant: unknown callers count as able to proceed, so every reported deadlock is real.

use std::{collections::BTreeMap, mem};

use petgraph::{
    algo::kosaraju_scc,
    graph::{DiGraph, NodeIndex},
};

/// Units that callers hold and wait for. An unknown caller is `None`.
#[derive(Clone, Debug)]
pub(super) struct Part<C> {
    /// The number of units, or `None` if a caller that holds nothing may end the wait.
    pub(super) units: Option<u64>,
    /// The holders, and how many units each holds.
    pub(super) holders: Vec<(Option<C>, u64)>,
    /// The waiters, and how many units each wants, in the order in which they are granted.
    pub(super) waiters: Vec<(Option<C>, u64)>,
}

/// A wait of a caller for a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The index of the part.
    pub(super) part: usize,
    /// The index in the part's line.
    pub(super) position: usize,
}

/// Callers that wait for one another and for no other caller.
#[derive(Debug)]
pub(super) struct Circle<C> {
    /// The callers, and all waits of each.
    pub(super) callers: BTreeMap<C, Vec<Place>>,
}

/// The index of a caller among all callers.
type Index = usize;

/// The state of a search.
struct Search<'a, C> {
    parts: &'a [Part<C>],
    /// The callers of each part's holders and, below, of its waiters.
    holders: Vec<Vec<Option<Index>>>,
    waiters: Vec<Vec<Option<Index>>>,
    callers: Vec<Caller>,
    /// The units of each part that callers hold which are not known to proceed.
    kept: Vec<u64>,
    /// The number of waiters of each part that are known to proceed: all before the first one that is not.
    passed: Vec<usize>,
    /// The parts whose next waiter may be able to proceed.
    unsettled: Vec<usize>,
}

#[derive(Default)]
struct Caller {
    goes_on: bool,
    holds: Vec<(usize, u64)>,
    waits: Vec<Place>,
}

/// Finds all deadlocks.
pub(super) fn circles<C: Copy + Ord>(parts: &[Part<C>]) -> Vec<Circle<C>> {
    let mut numbers = BTreeMap::new();
    let mut search = Search::new(parts, &mut numbers);
    search.reduce();
    let names: BTreeMap<Index, C> = numbers
        .into_iter()
        .map(|(name, caller)| (caller, name))
        .collect();
    let members = |circle: Vec<Index>| Circle {
        callers: circle
            .into_iter()
            .filter_map(|caller| {
                let waits = search.callers.get(caller)?.waits.clone();
                Some((*names.get(&caller)?, waits))
            })
            .collect(),
    };
    search.groups().into_iter().map(members).collect()
}

impl<'a, C: Copy + Ord> Search<'a, C> {
    fn new(parts: &'a [Part<C>], numbers: &mut BTreeMap<C, Index>) -> Self {
        let mut number = |name: Option<C>| {
            let next = numbers.len();
            name.map(|name| *numbers.entry(name).or_insert(next))
        };
        let mut numbered = |list: &[(Option<C>, u64)]| {
            let named = list.iter().map(|(name, _)| number(*name));
            named.collect::<Vec<_>>()
        };
        let holders = parts.iter().map(|part| numbered(&part.holders)).collect();
        let waiters = parts.iter().map(|part| numbered(&part.waiters)).collect();
        let mut search = Self {
            parts,
            holders,
            waiters,
            callers: Vec::new(),
            kept: vec![0; parts.len()],
            passed: vec![0; parts.len()],
            unsettled: (0..parts.len()).collect(),
        };
        search.callers.resize_with(numbers.len(), Caller::default);
        search.enter();
        search
    }

    /// Records what each caller holds and waits for. A caller proceeds if it has no wait, or one that any
    /// caller may end.
    fn enter(&mut self) {
        for (place, part) in self.parts.iter().enumerate() {
            for (holder, (_, units)) in self.holders[place].iter().zip(&part.holders) {
                if let Some(holder) = holder {
                    self.callers[*holder].holds.push((place, *units));
                    self.kept[place] = self.kept[place].saturating_add(*units);
                }
            }
            for (position, waiter) in self.waiters[place].iter().enumerate() {
                if let Some(waiter) = waiter {
                    let part = place;
                    self.callers[*waiter].waits.push(Place { part, position });
                }
            }
        }
        for caller in 0..self.callers.len() {
            let waits = &self.callers[caller].waits;
            if waits.is_empty() || waits.iter().any(|wait| self.is_up_to_anybody(*wait)) {
                self.let_go_on(caller);
            }
        }
    }

    /// Returns whether a caller that holds nothing may end the wait: the part does not count units, or the
    /// waiter wants more units than exist.
    fn is_up_to_anybody(&self, Place { part, position }: Place) -> bool {
        let part = &self.parts[part];
        let wanted = part.waiters[position].1;
        part.units.is_none_or(|units| wanted > units)
    }

    /// Marks all callers that can proceed.
    fn reduce(&mut self) {
        while let Some(part) = self.unsettled.pop() {
            self.settle(part);
        }
    }

    /// Marks the next waiters of a part as able to proceed, as long as their units fit.
    fn settle(&mut self, place: usize) {
        let part = &self.parts[place];
        while let Some((_, wanted)) = part.waiters.get(self.passed[place]) {
            let waiter = self.waiters[place][self.passed[place]];
            let waiter = waiter.filter(|waiter| !self.callers[*waiter].goes_on);
            if let Some(waiter) = waiter {
                let units = part.units.unwrap_or(u64::MAX);
                if self.kept[place] > units.saturating_sub(*wanted) {
                    return;
                }
                self.let_go_on(waiter);
            }
            self.passed[place] += 1;
        }
    }

    /// Marks a caller as able to proceed, and releases what it holds.
    fn let_go_on(&mut self, caller: Index) {
        let caller = &mut self.callers[caller];
        caller.goes_on = true;
        for (part, units) in mem::take(&mut caller.holds) {
            self.kept[part] = self.kept[part].saturating_sub(units);
            self.unsettled.push(part);
        }
        let lines = caller.waits.iter().map(|wait| wait.part);
        self.unsettled.extend(lines);
    }

    /// The groups of blocked callers whose members wait only for members of the same group.
    fn groups(&self) -> Vec<Vec<Index>> {
        let mut graph = DiGraph::<Index, ()>::new();
        let mut nodes: Vec<Option<NodeIndex>> = vec![None; self.callers.len()];
        for (caller, node) in nodes.iter_mut().enumerate() {
            if !self.callers[caller].goes_on {
                *node = Some(graph.add_node(caller));
            }
        }
        let node = |caller: &Option<Index>| caller.and_then(|caller| nodes[caller]);
        for (holders, waiters) in self.holders.iter().zip(&self.waiters) {
            // The first waiter depends on the holders, each other waiter on its predecessor.
            let mut before: Vec<NodeIndex> = holders.iter().filter_map(node).collect();
            for waiter in waiters.iter().filter_map(node) {
                for other in mem::replace(&mut before, vec![waiter]) {
                    graph.update_edge(waiter, other, ());
                }
            }
        }
        // Tarjan's algorithm would recurse once for each caller in a line.
        let groups = kosaraju_scc(&graph);
        let mut group_of = vec![usize::MAX; graph.node_count()];
        for (group, members) in groups.iter().enumerate() {
            for member in members {
                group_of[member.index()] = group;
            }
        }
        let is_closed = |group: usize, members: &[NodeIndex]| {
            let mut edges = members.iter().flat_map(|member| graph.neighbors(*member));
            edges.all(|other| group_of[other.index()] == group)
        };
        let closed = groups.iter().enumerate();
        closed
            .filter(|(group, members)| is_closed(*group, members))
            .map(|(_, members)| members.iter().map(|member| graph[*member]).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests;
