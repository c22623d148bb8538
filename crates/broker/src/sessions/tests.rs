use super::*;
use crate::wire::Version;

const HOUR: Duration = Duration::from_secs(3_600);
const TOPIC: &str = "devices/a/receipts";

fn sessions() -> Sessions {
    Sessions::new(Bounds { messages: 2, bytes: 1_000 })
}

fn heard(seat: &Seat) -> usize {
    let mut out = BytesMut::new();
    seat.write(Taker { version: Version::V3, max_packet_bytes: None, window: 20 }, &mut out);
    out.windows(TOPIC.len()).filter(|w| *w == TOPIC.as_bytes()).count()
}

fn tell(sessions: &Sessions) {
    sessions.tell("a", TOPIC, Bytes::from_static(b"x"), Qos::AtLeastOnce);
}

#[test]
fn a_newer_connection_takes_over_and_the_older_ones_leaving_does_not_disturb_it() {
    let sessions = sessions();
    let mut older = sessions.enter("a", false, HOUR);
    assert!(!older.present && older.taken.as_mut().unwrap().try_recv().is_err());
    assert!(older.subscribe(TOPIC.into(), Qos::AtLeastOnce, 8));
    tell(&sessions);
    assert_eq!(heard(&older), 1);
    let mut newer = sessions.enter("a", false, HOUR);
    assert_eq!(older.taken.as_mut().unwrap().try_recv(), Ok(()));
    tell(&sessions);
    assert_eq!((heard(&older), heard(&newer)), (0, 2), "what the older one had not acknowledged comes again");
    assert!(!older.unsubscribe(TOPIC) && older.stored().is_none());
    drop(older);
    assert!(newer.present && newer.taken.as_mut().unwrap().try_recv().is_err());
    assert!(newer.acknowledge(1) && sessions.wants("a", TOPIC));
}

#[test]
fn a_kept_session_collects_qos_1_within_its_bounds_until_it_expires() {
    let sessions = sessions();
    let seat = sessions.enter("a", true, HOUR);
    assert!(seat.subscribe(TOPIC.into(), Qos::AtLeastOnce, 8));
    let left = seat.left();
    drop(seat);
    for _ in 0..5 {
        tell(&sessions);
    }
    assert!(!left.is_back());
    let seat = sessions.enter("a", false, HOUR);
    assert_eq!((seat.present, heard(&seat)), (true, 2));
    assert!(left.is_back());
    let _new = sessions.enter("a", true, HOUR);
    assert!(!left.is_back(), "a clean start has ended it");
    let mut seat = sessions.enter("a", false, HOUR);
    seat.set_expiry(Duration::from_nanos(1));
    drop(seat);
    tell(&sessions);
    let seat = sessions.enter("a", false, HOUR);
    assert_eq!((seat.present, heard(&seat), sessions.has_listeners()), (false, 0, false));
}

#[test]
fn a_session_without_expiry_ends_with_its_connection_and_clean_ends_a_kept_one() {
    let sessions = sessions();
    let seat = sessions.enter("a", false, Duration::ZERO);
    assert!(seat.subscribe(TOPIC.into(), Qos::AtLeastOnce, 8) && sessions.wants("a", TOPIC));
    // Taken over, it is over as well: it has no time to live without its connection.
    let newer = sessions.enter("a", false, HOUR);
    assert!(!newer.present && !sessions.has_listeners());
    drop(seat);
    assert!(newer.subscribe(TOPIC.into(), Qos::AtMostOnce, 8));
    drop(newer);
    tell(&sessions);
    let seat = sessions.enter("a", false, HOUR);
    assert_eq!((seat.present, heard(&seat)), (true, 0), "QoS 0 is not kept");
    drop(seat);
    let seat = sessions.enter("a", true, Duration::ZERO);
    assert!(!seat.present && !sessions.has_listeners());
    drop(seat);
    assert_eq!(sessions.0.kept.len(), 0);
}

#[test]
fn a_restored_session_is_present_and_a_swept_one_is_not() {
    let sessions = sessions();
    let stored = |owner: &str| Stored {
        owner: owner.into(),
        subscriptions: BTreeMap::from([(TOPIC.into(), Qos::ExactlyOnce)]),
        expiry: HOUR,
        left_at_ms: Some(1),
    };
    sessions.restore(stored("a"), Duration::from_secs(60));
    sessions.restore(stored("b"), Duration::from_secs(60));
    sessions.restore(stored("old"), HOUR);
    tell(&sessions);
    assert_eq!(sessions.sweep(|owner| owner == "b").len(), 2);
    let seat = sessions.enter("a", false, HOUR);
    assert_eq!((seat.present, heard(&seat)), (true, 1));
    assert!(!sessions.enter("b", false, HOUR).present);
    assert_eq!(seat.stored().map(|s| s.subscriptions.len()), Some(1));
}

#[test]
fn subscriptions_are_bounded_and_counted_once() {
    let sessions = sessions();
    let seat = sessions.enter("a", true, Duration::ZERO);
    assert!(seat.subscribe("1".into(), Qos::AtMostOnce, 2) && seat.subscribe("2".into(), Qos::AtMostOnce, 2));
    assert!(!seat.subscribe("3".into(), Qos::AtMostOnce, 2) && seat.subscribe("1".into(), Qos::AtLeastOnce, 2));
    assert!(seat.unsubscribe("1") && !seat.unsubscribe("1") && seat.unsubscribe("2"));
    assert!(!sessions.has_listeners());
}
