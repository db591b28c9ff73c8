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
pub(super) struct Resource<C> {
    /// The number of units, or `None` if a caller that holds nothing may end the wait.
    pub(super) units: Option<u64>,
    /// The holders, and how many units each holds.
    pub(super) holders: Vec<(Option<C>, u64)>,
    /// The waiters, and how many units each wants, in the order in which they are granted.
    pub(super) waiters: Vec<(Option<C>, u64)>,
}

/// A wait of a caller for a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WaitIndex {
    /// The index of the resource.
    pub(super) resource: usize,
    /// The index in the queue of the resource.
    pub(super) position: usize,
}

/// Callers that wait for one another and for no other caller.
#[derive(Debug)]
pub(super) struct Cycle<C> {
    /// The callers, and all waits of each.
    pub(super) callers: BTreeMap<C, Vec<WaitIndex>>,
}

/// The index of a caller among all callers.
type Index = usize;

/// The state of a search.
struct Search<'a, C> {
    resources: &'a [Resource<C>],
    /// The callers of each resource's holders and, below, of its waiters.
    holders: Vec<Vec<Option<Index>>>,
    waiters: Vec<Vec<Option<Index>>>,
    callers: Vec<Caller>,
    /// The units of each resource that callers hold which are not known to proceed.
    kept: Vec<u64>,
    /// The number of waiters of each resource that are known to proceed: all before the first one that is not.
    passed: Vec<usize>,
    /// The resources whose next waiter may be able to proceed.
    unsettled: Vec<usize>,
}

#[derive(Default)]
struct Caller {
    goes_on: bool,
    holds: Vec<(usize, u64)>,
    waits: Vec<WaitIndex>,
}

/// Finds all deadlocks.
pub(super) fn cycles<C: Copy + Ord>(resources: &[Resource<C>]) -> Vec<Cycle<C>> {
    let mut numbers = BTreeMap::new();
    let mut search = Search::new(resources, &mut numbers);
    search.reduce();
    let names: BTreeMap<Index, C> = numbers
        .into_iter()
        .map(|(name, caller)| (caller, name))
        .collect();
    let members = |cycle: Vec<Index>| Cycle {
        callers: cycle
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
    fn new(resources: &'a [Resource<C>], numbers: &mut BTreeMap<C, Index>) -> Self {
        let mut number = |name: Option<C>| {
            let next = numbers.len();
            name.map(|name| *numbers.entry(name).or_insert(next))
        };
        let mut numbered = |list: &[(Option<C>, u64)]| {
            let named = list.iter().map(|(name, _)| number(*name));
            named.collect::<Vec<_>>()
        };
        let holders = resources
            .iter()
            .map(|resource| numbered(&resource.holders))
            .collect();
        let waiters = resources
            .iter()
            .map(|resource| numbered(&resource.waiters))
            .collect();
        let mut search = Self {
            resources,
            holders,
            waiters,
            callers: Vec::new(),
            kept: vec![0; resources.len()],
            passed: vec![0; resources.len()],
            unsettled: (0..resources.len()).collect(),
        };
        search.callers.resize_with(numbers.len(), Caller::default);
        search.enter();
        search
    }

    /// Records what each caller holds and waits for. A caller proceeds if it has no wait, or one that any
    /// caller may end.
    fn enter(&mut self) {
        for (place, resource) in self.resources.iter().enumerate() {
            for (holder, (_, units)) in self.holders[place].iter().zip(&resource.holders) {
                if let Some(holder) = holder {
                    self.callers[*holder].holds.push((place, *units));
                    self.kept[place] = self.kept[place].saturating_add(*units);
                }
            }
            for (position, waiter) in self.waiters[place].iter().enumerate() {
                if let Some(waiter) = waiter {
                    let resource = place;
                    self.callers[*waiter]
                        .waits
                        .push(WaitIndex { resource, position });
                }
            }
        }
        for caller in 0..self.callers.len() {
            let waits = &self.callers[caller].waits;
            if waits.is_empty() || waits.iter().any(|wait| self.is_up_to_any_session(*wait)) {
                self.let_go_on(caller);
            }
        }
    }

    /// Returns whether a caller that holds nothing may end the wait: the resource does not count units, or the
    /// waiter wants more units than exist.
    fn is_up_to_any_session(&self, WaitIndex { resource, position }: WaitIndex) -> bool {
        let resource = &self.resources[resource];
        let wanted = resource.waiters[position].1;
        resource.units.is_none_or(|units| wanted > units)
    }

    /// Marks all callers that can proceed.
    fn reduce(&mut self) {
        while let Some(resource) = self.unsettled.pop() {
            self.settle(resource);
        }
    }

    /// Marks the next waiters of a resource as able to proceed, as long as their units fit.
    fn settle(&mut self, place: usize) {
        let resource = &self.resources[place];
        while let Some((_, wanted)) = resource.waiters.get(self.passed[place]) {
            let waiter = self.waiters[place][self.passed[place]];
            let waiter = waiter.filter(|waiter| !self.callers[*waiter].goes_on);
            if let Some(waiter) = waiter {
                let units = resource.units.unwrap_or(u64::MAX);
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
        for (resource, units) in mem::take(&mut caller.holds) {
            self.kept[resource] = self.kept[resource].saturating_sub(units);
            self.unsettled.push(resource);
        }
        let resources = caller.waits.iter().map(|wait| wait.resource);
        self.unsettled.extend(resources);
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
                    // A second edge changes nothing, and a search for the first one would visit all.
                    graph.add_edge(waiter, other, ());
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
