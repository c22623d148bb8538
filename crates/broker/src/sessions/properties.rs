//! Any sequence of connections, subscriptions, messages and sweeps, against plain lists.

use proptest::prelude::*;

use super::*;
use crate::{mailbox::qualities, wire::Version};

const OWNERS: [&str; 2] = ["a", "b"];
const TOPICS: [&str; 3] = ["receipts", "errors", "commands"];
const MOST_FILTERS: usize = 2;
const BOUNDS: Bounds = Bounds { messages: 3, bytes: 10_000 };
/// Wide enough: the mailbox has its own test.
const TAKER: Taker = Taker { version: Version::V3, max_packet_bytes: None, window: 20 };

/// How long a session is kept without a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expiry {
    None,
    /// Over as soon as it is left.
    Brief,
    Long,
}

impl Expiry {
    fn duration(self) -> Duration {
        match self {
            Self::None => Duration::ZERO,
            Self::Brief => Duration::from_nanos(1),
            Self::Long => Duration::from_secs(3_600),
        }
    }
}

/// What may happen. Connections and topics are chosen by number, round and round.
#[derive(Debug, Clone)]
enum Act {
    Enter {
        owner: usize,
        clean: bool,
        expiry: Expiry,
    },
    Subscribe {
        connection: usize,
        topic: usize,
        qos: Qos,
    },
    Unsubscribe {
        connection: usize,
        topic: usize,
    },
    SetExpiry {
        connection: usize,
        expiry: Expiry,
    },
    Tell {
        owner: usize,
        topic: usize,
        times: usize,
        qos: Qos,
    },
    Write {
        connection: usize,
    },
    Acknowledge {
        connection: usize,
    },
    Leave {
        connection: usize,
    },
    /// The second owner's device may be gone from the config.
    Sweep {
        gone: bool,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let expiries = || prop_oneof![1 => Just(Expiry::None), 1 => Just(Expiry::Brief), 3 => Just(Expiry::Long)];
    let (connection, topic) = (0_usize..4, 0..TOPICS.len());
    let act = prop_oneof![
        3 => (0..OWNERS.len(), prop::bool::weighted(0.3), expiries())
            .prop_map(|(owner, clean, expiry)| Act::Enter { owner, clean, expiry }),
        4 => (connection.clone(), topic.clone(), qualities())
            .prop_map(|(connection, topic, qos)| Act::Subscribe { connection, topic, qos }),
        1 => (connection.clone(), topic.clone()).prop_map(|(connection, topic)| Act::Unsubscribe { connection, topic }),
        1 => (connection.clone(), expiries()).prop_map(|(connection, expiry)| Act::SetExpiry { connection, expiry }),
        5 => (0..OWNERS.len(), topic, 1_usize..4, qualities())
            .prop_map(|(owner, topic, times, qos)| Act::Tell { owner, topic, times, qos }),
        3 => connection.clone().prop_map(|connection| Act::Write { connection }),
        2 => connection.clone().prop_map(|connection| Act::Acknowledge { connection }),
        2 => connection.prop_map(|connection| Act::Leave { connection }),
        1 => any::<bool>().prop_map(|gone| Act::Sweep { gone }),
    ];
    prop::collection::vec(act, 1..80)
}

/// Sessions that the store has kept: whether each is over.
fn restored() -> impl Strategy<Value = [Option<bool>; 2]> {
    prop::array::uniform2(prop::option::weighted(0.3, any::<bool>()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Open(u16),
    Again(u16),
}

#[derive(Debug)]
struct Mail {
    number: u32,
    qos: Qos,
    stage: Stage,
}

/// A session as it should be.
#[derive(Debug)]
struct Expected {
    subscriptions: BTreeMap<String, Qos>,
    expiry: Expiry,
    /// The connection that owns it.
    connection: Option<u64>,
    last: u64,
    /// The connection that it began with.
    first: u64,
    mail: Vec<Mail>,
    over: bool,
}

impl Expected {
    fn fresh(connection: u64, expiry: Expiry) -> Self {
        let (subscriptions, mail) = (BTreeMap::new(), Vec::new());
        Self {
            subscriptions,
            expiry,
            connection: Some(connection),
            last: connection,
            first: connection,
            mail,
            over: false,
        }
    }

    fn lose(&mut self) {
        self.connection = None;
        self.mail.retain(|m| m.qos != Qos::AtMostOnce);
        for mail in &mut self.mail {
            if let Stage::Open(id) = mail.stage {
                mail.stage = Stage::Again(id);
            }
        }
    }
}

/// A connection and what it was told.
struct Connection {
    seat: Seat,
    taken: oneshot::Receiver<()>,
    taken_over: bool,
    /// The connection that its session began with.
    session: u64,
}

/// The sessions under test beside the model.
struct Scene {
    sessions: Sessions,
    connections: Vec<Connection>,
    expected: BTreeMap<String, Expected>,
    told: u32,
}

fn topic(owner: &str, topic: usize) -> String {
    format!("devices/{owner}/{}", TOPICS[topic])
}

/// Number, packet id, QoS and DUP of each message.
fn read(mut out: &[u8]) -> Vec<(u32, Option<u16>, u8, bool)> {
    let mut messages = Vec::new();
    while let [first, length, rest @ ..] = out {
        let (body, rest) = rest.split_at(usize::from(*length));
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let qos = first >> 1 & 3;
        let id = (qos > 0).then(|| u16::from_be_bytes([body[2 + topic], body[3 + topic]]));
        let number = u32::from_be_bytes(body[body.len() - 4..].try_into().unwrap());
        messages.push((number, id, qos, first & 0b1000 != 0));
        out = rest;
    }
    messages
}

impl Scene {
    fn new(restored: [Option<bool>; 2]) -> Self {
        let (sessions, mut expected) = (Sessions::new(BOUNDS), BTreeMap::new());
        for (owner, over) in OWNERS.iter().zip(restored).filter_map(|(owner, over)| Some((*owner, over?))) {
            let subscriptions = BTreeMap::from([(topic(owner, 0), Qos::ExactlyOnce)]);
            let expiry = Expiry::Long;
            let stored = Stored {
                owner: owner.into(),
                subscriptions: subscriptions.clone(),
                expiry: if over { Duration::from_millis(1) } else { expiry.duration() },
                left_at_ms: None,
            };
            sessions.restore(stored, Duration::from_millis(2));
            let kept = Expected { subscriptions, connection: None, over, ..Expected::fresh(0, expiry) };
            expected.insert(owner.to_owned(), kept);
        }
        Self { sessions, connections: Vec::new(), expected, told: 0 }
    }

    /// The so-many-th connection; with what its owner should have, if it still owns it.
    fn connection(&mut self, nth: usize) -> Option<(&mut Connection, Option<&mut Expected>)> {
        let count = self.connections.len();
        let connection = self.connections.get_mut(nth.checked_rem(count)?)?;
        let serial = connection.seat.serial;
        let expected = self.expected.get_mut(&connection.seat.owner).filter(|e| e.connection == Some(serial));
        Some((connection, expected))
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Enter { owner, clean, expiry } => self.enter(OWNERS[owner], clean, expiry),
            Act::Subscribe { connection, topic: at, qos } => {
                let Some((connection, expected)) = self.connection(connection) else { return };
                let filter = topic(&connection.seat.owner, at);
                let room = connection.seat.subscribe(filter.clone(), qos, MOST_FILTERS);
                let Some(expected) = expected else { return assert!(room, "nobody will hear, nothing is refused") };
                let subscriptions = &mut expected.subscriptions;
                assert_eq!(room, subscriptions.contains_key(&filter) || subscriptions.len() < MOST_FILTERS);
                if room {
                    subscriptions.insert(filter, qos);
                }
            }
            Act::Unsubscribe { connection, topic: at } => {
                let Some((connection, expected)) = self.connection(connection) else { return };
                let filter = topic(&connection.seat.owner, at);
                let found = expected.is_some_and(|e| e.subscriptions.remove(&filter).is_some());
                assert_eq!(connection.seat.unsubscribe(&filter), found);
            }
            Act::SetExpiry { connection, expiry } => {
                let Some((connection, expected)) = self.connection(connection) else { return };
                connection.seat.set_expiry(expiry.duration());
                expected.map(|e| e.expiry = expiry).unwrap_or_default();
            }
            Act::Tell { owner, topic, times, qos } => (0..times).for_each(|_| self.tell(OWNERS[owner], topic, qos)),
            Act::Write { connection } => self.write(connection),
            Act::Acknowledge { connection } => {
                let Some((connection, Some(expected))) = self.connection(connection) else { return };
                let open = expected.mail.iter().position(|m| matches!(m.stage, Stage::Open(_)));
                let Some(at) = open else { return };
                let Mail { stage: Stage::Open(id), qos, .. } = expected.mail.remove(at) else { return };
                let seat = &connection.seat;
                if qos == Qos::ExactlyOnce {
                    assert_eq!(seat.receive(id, false), Received::Release);
                    assert!(seat.complete(id) && seat.receive(id, false) == Received::Unknown);
                } else {
                    assert!(seat.acknowledge(id) && !seat.acknowledge(id));
                }
            }
            Act::Leave { connection } => self.leave(connection),
            Act::Sweep { gone } => {
                let ends = |owner: &str, e: &Expected| e.connection.is_none() && (e.over || (gone && owner == "b"));
                let mut ended = self.sessions.sweep(|owner| gone && owner == "b");
                ended.sort();
                let expected: Vec<_> =
                    self.expected.iter().filter(|(o, e)| ends(o, e)).map(|(owner, _)| owner.clone()).collect();
                assert_eq!(ended, expected);
                self.expected.retain(|owner, e| !ends(owner, e));
            }
        }
    }

    fn enter(&mut self, owner: &str, clean: bool, expiry: Expiry) {
        let older = self.expected.get_mut(owner);
        // A brief session that is taken over may or may not be over by then; both are right.
        let brief = older.filter(|e| e.connection.is_some() && e.expiry == Expiry::Brief);
        if let Some(expected) = brief {
            expected.expiry = Expiry::Long;
            let serial = expected.last;
            let seat = self.connections.iter_mut().find(|c| c.seat.serial == serial);
            seat.unwrap().seat.set_expiry(Expiry::Long.duration());
        }
        let mut seat = self.sessions.enter(owner, clean, expiry.duration());
        let taken = seat.taken.take().unwrap();
        let kept = self.expected.remove(owner).filter(|e| !clean && !e.over && e.expiry != Expiry::None);
        assert_eq!(seat.present, kept.is_some());
        let expected = match kept {
            None => Expected::fresh(seat.serial, expiry),
            Some(mut kept) => {
                kept.lose();
                Expected { connection: Some(seat.serial), last: seat.serial, expiry, ..kept }
            }
        };
        let session = expected.first;
        self.expected.insert(owner.to_owned(), expected);
        self.connections.push(Connection { seat, taken, taken_over: false, session });
    }

    fn tell(&mut self, owner: &str, at: usize, qos: Qos) {
        self.told += 1;
        let (topic, number) = (topic(owner, at), self.told);
        self.sessions.tell(owner, &topic, Bytes::copy_from_slice(&number.to_be_bytes()), qos);
        let Some(expected) = self.expected.get_mut(owner) else { return };
        let Some(qos) = expected.subscriptions.get(&topic).map(|asked| qos.min(*asked)) else { return };
        let heard = expected.connection.is_some() || (qos != Qos::AtMostOnce && !expected.over);
        if heard && expected.mail.len() < BOUNDS.messages {
            expected.mail.push(Mail { number, qos, stage: Stage::Waiting });
        }
    }

    fn write(&mut self, connection: usize) {
        let Some((connection, expected)) = self.connection(connection) else { return };
        let mut out = BytesMut::new();
        connection.seat.write(TAKER, &mut out);
        let heard = read(&out);
        let Some(expected) = expected else { return assert!(heard.is_empty(), "who was taken over hears nothing") };
        let again = |stage| matches!(stage, Stage::Again(_));
        let due = |m: &&Mail| !matches!(m.stage, Stage::Open(_));
        let mut sent: Vec<&Mail> = expected.mail.iter().filter(due).collect();
        sent.sort_by_key(|m| !again(m.stage));
        let sent: Vec<_> = sent.into_iter().map(|m| (m.number, m.qos.number(), again(m.stage))).collect();
        let told: Vec<_> = heard.iter().map(|(number, _, qos, again)| (*number, *qos, *again)).collect();
        assert_eq!(told, sent);
        for (number, id, ..) in heard {
            let at = expected.mail.iter().position(|m| m.number == number).unwrap();
            match id {
                Some(id) => expected.mail[at].stage = Stage::Open(id),
                None => drop(expected.mail.remove(at)),
            }
        }
    }

    fn leave(&mut self, nth: usize) {
        let Some(nth) = nth.checked_rem(self.connections.len()) else { return };
        let Connection { seat, .. } = self.connections.remove(nth);
        let (owner, serial) = (seat.owner.clone(), seat.serial);
        drop(seat);
        let Some(expected) = self.expected.get_mut(&owner).filter(|e| e.connection == Some(serial)) else { return };
        expected.lose();
        match expected.expiry {
            Expiry::None => drop(self.expected.remove(&owner)),
            Expiry::Brief => {
                expected.over = true;
                // The clock must have moved.
                let left = Instant::now();
                while left.elapsed() < Expiry::Brief.duration() {}
            }
            Expiry::Long => {}
        }
    }

    fn check(&mut self) {
        let subscriptions: usize = self.expected.values().map(|e| e.subscriptions.len()).sum();
        assert_eq!(self.sessions.0.subscriptions.load(Ordering::Relaxed), subscriptions);
        assert_eq!(self.sessions.has_listeners(), subscriptions > 0);
        assert_eq!(self.sessions.0.kept.len(), self.expected.len());
        for kept in &self.sessions.0.kept {
            let expected = self.expected.get(kept.key()).map(|e| e.mail.len());
            assert_eq!(Some(lock(&kept.state).mailbox.held()), expected, "what {} is to hear", kept.key());
        }
        for (owner, at) in OWNERS.iter().flat_map(|owner| (0..TOPICS.len()).map(move |at| (*owner, at))) {
            let wanted = self.expected.get(owner).is_some_and(|e| e.subscriptions.contains_key(&topic(owner, at)));
            assert_eq!(self.sessions.wants(owner, &topic(owner, at)), wanted);
        }
        for connection in &mut self.connections {
            let (owner, serial) = (connection.seat.owner.as_str(), connection.seat.serial);
            let expected = self.expected.get(owner);
            let owns = expected.is_some_and(|e| e.connection == Some(serial));
            assert_eq!(connection.seat.stored().is_some(), owns, "one connection owns a session");
            connection.taken_over |= connection.taken.try_recv().is_ok();
            assert_eq!(connection.taken_over, !owns, "who is taken over is told");
            let back = expected.is_some_and(|e| e.first == connection.session && e.last != serial);
            assert_eq!(connection.seat.left().is_back(), back, "another goes on with it");
            let subscriptions = expected.filter(|_| owns).map(|e| e.subscriptions.clone()).unwrap_or_default();
            assert_eq!(connection.seat.subscriptions(), subscriptions);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn one_connection_owns_a_session_and_hears_what_it_asked_for(restored in restored(), acts in acts()) {
        let mut scene = Scene::new(restored);
        scene.check();
        for act in acts {
            scene.act(act);
            scene.check();
        }
        let sessions = scene.sessions.clone();
        drop(scene);
        sessions.sweep(|_| true);
        prop_assert!(sessions.0.kept.is_empty() && !sessions.has_listeners());
    }
}
