//! What a seed means.

use std::{fmt, time::Duration};

use windlass_tests::{Fault, Moment, Of};

/// Where the gateway is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point {
    pub(crate) name: &'static str,
    pub(crate) of: Of,
    pub(crate) moment: Moment,
}

const SEND: Of = Of::Method("eth_sendRawTransaction");
/// Each lies behind one write of the journal and before the next.
const POINTS: [Point; 8] = [
    Point { name: "written, not sent", of: SEND, moment: Moment::Before },
    Point { name: "sent, not heard", of: SEND, moment: Moment::After },
    Point { name: "sent and heard", of: SEND, moment: Moment::Answered },
    Point { name: "bump written", of: Of::Replacement, moment: Moment::Before },
    Point { name: "bump sent, not heard", of: Of::Replacement, moment: Moment::After },
    Point { name: "mined, not seen", of: Of::Receipts, moment: Moment::Before },
    Point { name: "mined, being read", of: Of::Receipts, moment: Moment::After },
    Point { name: "mined and seen", of: Of::Receipts, moment: Moment::Answered },
];
/// What becomes of the first sends after the restart.
const REPLIES: [(&str, &[Fault]); 5] = [
    ("accepted", &[]),
    ("reply lost", &[Fault::ReplyLost, Fault::ReplyLost]),
    ("refused", &[Fault::Refused("txpool is full"), Fault::Refused("the moon is full")]),
    ("request lost", &[Fault::RequestLost, Fault::RateLimited]),
    ("bad gateway", &[Fault::BadGateway, Fault::ReplyLost]),
];
const SETTLEMENTS: [&str; 3] = ["anchor", "batch", "direct"];
/// Deepest reorg.
pub(crate) const DEPTH: u64 = 8;

/// One case.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) settlement: &'static str,
    pub(crate) nodes: usize,
    pub(crate) point: Point,
    pub(crate) reply: (&'static str, &'static [Fault]),
    /// 0: none.
    pub(crate) reorg: u64,
    /// What the second node does wrong, where there is one.
    pub(crate) second: Second,
    /// So many looks at a block's receipts fail after the restart, and again in the reorg.
    pub(crate) blind: usize,
    /// Readings keep coming for so long after the restart.
    pub(crate) load: Duration,
    /// Killed once more after this long, at no point in particular.
    pub(crate) again: Option<Duration>,
}

/// A second node's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Second {
    Sound,
    /// So many blocks behind.
    Lags(u64),
    /// Every nonce is this much off.
    LiesBy(i64),
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = windlass_tests::Random(seed);
        let pick = |dimension: u64, of: usize| usize::try_from(dimension % of as u64).unwrap();
        let nodes = 1 + pick(seed / 2, 2);
        let second = match random.below(3) {
            _ if nodes == 1 => Second::Sound,
            0 => Second::Sound,
            1 => Second::Lags(1 + random.below(3)),
            _ => Second::LiesBy([1, -1, 3][pick(random.below(3), 3)]),
        };
        Self {
            seed,
            settlement: SETTLEMENTS[pick(seed, 3)],
            nodes,
            point: POINTS[pick(seed, POINTS.len())],
            reply: REPLIES[pick(seed, REPLIES.len())],
            // Nine depths against eight points: every pair comes within 72 seeds.
            reorg: seed % (DEPTH + 1),
            second,
            blind: pick(random.below(4), 4),
            load: Duration::from_millis(300 + random.below(700)),
            again: (random.below(2) == 0).then(|| Duration::from_millis(random.below(1_500))),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = match self.second {
            Second::Sound => self.nodes.to_string(),
            Second::Lags(blocks) => format!("2 -{blocks}b"),
            Second::LiesBy(by) => format!("2 {by:+}n"),
        };
        let reorg = if self.reorg == 0 { "-".to_owned() } else { self.reorg.to_string() };
        write!(
            f,
            "{:>5}  {:<10} {nodes:<6} {:<22} {:<14} {reorg:<6}",
            self.seed, self.settlement, self.point.name, self.reply.0
        )
    }
}
