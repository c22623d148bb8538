//! Follows the canonical chain by parent hash, and says when it changed its mind.

use std::collections::VecDeque;

use alloy::{eips::BlockNumberOrTag, primitives::B256};

use crate::{
    Confirmations, Error,
    node::{BlockId, Nodes},
};

/// How deep a reorg is followed. Deeper ones are found by asking for each open transaction again.
const DEPTH: usize = 128;
/// After a longer absence the follower jumps to the head instead of walking.
const LONGEST_WALK: u64 = 256;

/// What happened since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Hashes of blocks that are no longer canonical.
    pub(crate) removed: Vec<B256>,
    /// New canonical blocks, oldest first.
    pub(crate) added: Vec<BlockId>,
    /// The follower lost the thread (long absence or very deep reorg): ask for every open transaction.
    pub(crate) jumped: bool,
}

/// What the follower has seen and nobody has acted on yet. It stays until that has succeeded: a look-up that fails says
/// nothing about the chain.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    pub(crate) removed: Vec<B256>,
    pub(crate) added: VecDeque<BlockId>,
    pub(crate) jumped: bool,
}

impl Unread {
    pub(crate) fn note(&mut self, step: Step) {
        if step.jumped {
            *self = Self { jumped: true, ..Self::default() };
        } else {
            self.added.retain(|block| !step.removed.contains(&block.hash));
            self.removed.extend(step.removed);
        }
        self.added.extend(step.added);
    }
}

/// The canonical chain's newest blocks.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    recent: VecDeque<BlockId>,
}

impl Follower {
    /// The newest block that was followed.
    pub(crate) fn head(&self) -> Option<BlockId> {
        self.recent.back().copied()
    }

    /// Looks at the node's newest block and walks to it.
    pub(crate) async fn step(&mut self, nodes: &Nodes) -> Result<Step, Error> {
        let latest = nodes.latest().await?;
        let Some(head) = self.head() else { return Ok(self.jump(latest)) };
        // The head, or an older block: then the node is behind. A chain that really became shorter shows it with its
        // next block.
        let known = self.recent.iter().any(|block| block.hash == latest.hash);
        if known || (latest.number < head.number && nodes.knows_a_longer_chain(latest.number)) {
            return Ok(Step::default());
        }
        if latest.number > head.number.saturating_add(LONGEST_WALK) {
            // Whether what was known is still canonical, nobody has looked.
            return Ok(Step { removed: Vec::new(), ..self.jump(latest) });
        }
        // Collect the new branch from its tip down to a block that is already known.
        let mut branch = vec![latest];
        let mut parent = latest.parent;
        let mut height = latest.number;
        while !self.recent.iter().any(|b| b.hash == parent) {
            let lowest = self.recent.front().map_or(0, |b| b.number);
            if height == 0 || height <= lowest {
                return Ok(self.jump(latest));
            }
            height -= 1;
            match nodes.block_at(BlockNumberOrTag::Number(height)).await? {
                Some(block) if block.hash == parent => {
                    branch.push(block);
                    parent = block.parent;
                }
                // The chain moved while we walked, or the node does not have it yet: look again at the next poll.
                _ => return Ok(Step::default()),
            }
        }
        Ok(self.adopt(parent, branch))
    }

    /// Drops what lies above `ancestor` and appends the branch (given tip first).
    fn adopt(&mut self, ancestor: B256, branch: Vec<BlockId>) -> Step {
        let mut removed = Vec::new();
        while let Some(last) = self.recent.back() {
            if last.hash == ancestor {
                break;
            }
            removed.push(last.hash);
            self.recent.pop_back();
        }
        let added: Vec<_> = branch.into_iter().rev().collect();
        for block in &added {
            self.recent.push_back(*block);
        }
        while self.recent.len() > DEPTH {
            self.recent.pop_front();
        }
        Step { removed, added, jumped: false }
    }

    fn jump(&mut self, latest: BlockId) -> Step {
        let removed = self.recent.drain(..).map(|b| b.hash).collect();
        self.recent.push_back(latest);
        Step { removed, added: vec![latest], jumped: true }
    }

    /// The highest block number that counts as final.
    pub(crate) async fn final_height(&self, rule: Confirmations, nodes: &Nodes) -> Result<Option<u64>, Error> {
        match rule {
            Confirmations::Blocks(n) => Ok(self.head().and_then(|h| (h.number + 1).checked_sub(n))),
            Confirmations::Finalized => Ok(nodes.block_at(BlockNumberOrTag::Finalized).await?.map(|b| b.number)),
        }
    }

    /// Whether the block is on the followed chain; `None` when it is older than what is remembered.
    pub(crate) fn is_canonical(&self, number: u64, hash: B256) -> Option<bool> {
        self.recent.iter().find(|b| b.number == number).map(|b| b.hash == hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64, fork: u8, parent_fork: u8) -> BlockId {
        let hash = |n: u64, f: u8| B256::from_slice(&[&[f; 24][..], &n.to_be_bytes()].concat());
        BlockId { number, hash: hash(number, fork), parent: hash(number.wrapping_sub(1), parent_fork) }
    }

    #[test]
    fn a_reorg_removes_the_old_branch_and_adds_the_new_one_in_order() {
        let mut follower = Follower::default();
        follower.jump(block(1, 0, 0));
        follower.adopt(block(1, 0, 0).hash, vec![block(3, 0, 0), block(2, 0, 0)]);
        assert_eq!(follower.head(), Some(block(3, 0, 0)));
        let step = follower.adopt(block(1, 0, 0).hash, vec![block(4, 1, 1), block(3, 1, 1), block(2, 1, 0)]);
        assert_eq!(step.removed, [block(3, 0, 0).hash, block(2, 0, 0).hash]);
        assert_eq!(step.added.iter().map(|b| b.number).collect::<Vec<_>>(), [2, 3, 4]);
        assert_eq!(follower.is_canonical(3, block(3, 0, 0).hash), Some(false));
        assert_eq!(follower.is_canonical(3, block(3, 1, 1).hash), Some(true));
        assert_eq!(follower.is_canonical(0, B256::ZERO), None);
    }

    #[test]
    fn what_was_not_read_stays_until_it_is_no_longer_canonical() {
        let mut unread = Unread::default();
        unread.note(Step { removed: vec![], added: vec![block(2, 0, 0), block(3, 0, 0)], jumped: false });
        let removed = vec![block(3, 0, 0).hash];
        unread.note(Step { removed: removed.clone(), added: vec![block(3, 1, 0), block(4, 1, 1)], jumped: false });
        assert_eq!(unread.removed, removed);
        assert_eq!(unread.added, [block(2, 0, 0), block(3, 1, 0), block(4, 1, 1)]);
        unread.note(Step { removed: vec![block(4, 1, 1).hash], added: vec![block(900, 1, 1)], jumped: true });
        assert!(unread.jumped && unread.removed.is_empty());
        assert_eq!(unread.added, [block(900, 1, 1)]);
    }

    #[tokio::test]
    async fn the_including_block_is_the_first_confirmation() {
        let mut follower = Follower::default();
        follower.jump(block(10, 0, 0));
        let nodes = Nodes::new(&crate::Config::default()).unwrap();
        assert_eq!(follower.final_height(Confirmations::Blocks(1), &nodes).await.unwrap(), Some(10));
        assert_eq!(follower.final_height(Confirmations::Blocks(3), &nodes).await.unwrap(), Some(8));
        assert_eq!(follower.final_height(Confirmations::Blocks(12), &nodes).await.unwrap(), None);
    }
}
