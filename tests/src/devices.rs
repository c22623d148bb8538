//! Devices that never give up: what they were acknowledged must be settled, each reading once.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::{Client, Protocol, SECRET};

/// Between two tries to come back.
const BACK_AFTER: Duration = Duration::from_millis(20);

/// Publishes with QoS 1 until `stop`: an unanswered publish is sent again with the same packet id and DUP, until it is
/// acknowledged. Gives what was acknowledged, in order.
pub fn stubborn(port: u16, id: &str, pause: Duration, stop: &AtomicBool) -> Vec<(String, String)> {
    let topic = format!("devices/{id}/readings");
    let mut acknowledged = Vec::new();
    let mut client: Option<Client> = None;
    let mut sent_before = false;
    while !stop.load(Ordering::Relaxed) || sent_before {
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
    while !stop.load(Ordering::Relaxed) || sent_before || received {
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
