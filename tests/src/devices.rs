//! Devices that never give up: what they were acknowledged must be settled, each reading once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{Client, Protocol, SECRET};

/// Between two tries to come back.
const BACK_AFTER: Duration = Duration::from_millis(20);
/// For the answer that is still due when all are to stop.
const LAST_ANSWER: Duration = Duration::from_secs(90);

/// Lets devices stop when it goes, also with a story that fails: it would wait for them for ever.
#[derive(Debug)]
pub struct Load<'a>(pub &'a AtomicBool);

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Whether a device goes on: until `stop`, and then until what it waits for has come.
struct Going<'a> {
    stop: &'a AtomicBool,
    stopped: Option<Instant>,
}

impl<'a> Going<'a> {
    fn until(stop: &'a AtomicBool) -> Self {
        Self { stop, stopped: None }
    }

    fn on(&mut self, waits: bool) -> bool {
        if !self.stop.load(Ordering::Relaxed) {
            return true;
        }
        let stopped = *self.stopped.get_or_insert_with(Instant::now);
        assert!(!waits || stopped.elapsed() < LAST_ANSWER, "the last answer never came");
        waits
    }
}

/// Publishes with QoS 1 until `stop`: an unanswered publish is sent again with the same packet id and DUP, until it is
/// acknowledged. Gives what was acknowledged, in order.
pub fn stubborn(port: u16, id: &str, pause: Duration, stop: &AtomicBool) -> Vec<(String, String)> {
    let topic = format!("devices/{id}/readings");
    let mut acknowledged = Vec::new();
    let mut client: Option<Client> = None;
    let mut sent_before = false;
    let mut going = Going::until(stop);
    while going.on(sent_before) {
        let Some(connected) = &mut client else {
            client = connect(port, Protocol::V311, id);
            thread::sleep(BACK_AFTER);
            continue;
        };
        let n = acknowledged.len() as u16 + 1;
        let payload = format!("0{n}");
        match connected.publish_and_wait(&topic, payload.as_bytes(), n, sent_before) {
            Some(_) => {
                acknowledged.push((id.to_owned(), payload));
                sent_before = false;
                thread::sleep(pause);
            }
            None => {
                client = None;
                sent_before = true;
            }
        }
    }
    acknowledged
}

/// A QoS 2 device that scans the same code again and again and uses the same packet id each time, so that only PUBREL
/// tells two readings from a repeat. Gives what was completed.
pub fn exact(port: u16, id: &str, stop: &AtomicBool) -> Vec<(String, String)> {
    let topic = format!("devices/{id}/readings");
    let mut completed = Vec::new();
    let mut client: Option<Client> = None;
    let (mut sent_before, mut received) = (false, false);
    let mut going = Going::until(stop);
    while going.on(sent_before || received) {
        let Some(connected) = &mut client else {
            client = connect(port, Protocol::V5, id);
            thread::sleep(BACK_AFTER);
            continue;
        };
        if !received {
            match connected.publish_exactly_once(&topic, b"42", 1, sent_before) {
                Some(0) => (sent_before, received) = (false, true),
                Some(code) => panic!("{code:#x}"),
                None => (sent_before, client) = (true, None),
            }
        } else if connected.release(1).is_some() {
            completed.push((id.to_owned(), "42".to_owned()));
            received = false;
        } else {
            client = None;
        }
    }
    completed
}

fn connect(port: u16, protocol: Protocol, id: &str) -> Option<Client> {
    let (client, code) = Client::open(port, protocol)?.introduce(id, Some((id, SECRET)));
    (code == Some(0)).then_some(client)
}
