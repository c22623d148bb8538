//! One MQTT connection, the same for both protocol versions.

use std::{io, time::Duration};

use bytes::Bytes;
use rumqttc::v5;

use crate::{
    load::{Load, Protocol, Qos, Scanner},
    window::Redelivery,
};

/// Idle scanners ping this often.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long the broker is asked to keep a session whose link broke (MQTT 5; 3.1.1 has no such limit).
pub(crate) const SESSION_EXPIRY_SECONDS: u32 = 300;

/// Something happened on the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signal {
    /// CONNACK; whether the broker kept the session, and how many publishes it lets be open (MQTT 5).
    Connected { session_present: bool, receive_max: Option<u16> },
    /// A publish is on the wire; 0 at QoS 0.
    Sent(u16),
    /// PUBACK, or a refusing PUBREC; the reason when it is a refusal (MQTT 5, code 0x80 and above).
    Answered { packet_id: u16, refusal: Option<String> },
    /// PUBREC: the broker has it. The client releases it by itself.
    Received(u16),
    /// PUBCOMP, the end of QoS 2; false when the broker did not know the packet id (MQTT 5).
    Completed { packet_id: u16, known: bool },
    /// Our DISCONNECT is on the wire.
    Closing,
    /// Nothing that a scanner minds.
    Other,
}

/// How the session is to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Session {
    /// Fresh, and gone with the link.
    Clean,
    /// Fresh where the protocol can say so, and kept when the link breaks.
    Keep,
    /// The kept one.
    Resume,
}

/// The end that publishes. Giving it a message never waits.
pub(crate) enum Sender {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

/// The end that is polled: it connects, reads and writes.
pub(crate) enum Receiver {
    V311(Box<rumqttc::EventLoop>),
    V5(Box<v5::EventLoop>),
}

/// Prepares a connection; it is made by the first [`Receiver::poll`].
pub(crate) fn open(load: &Load, scanner: &Scanner, session: Session) -> (Sender, Receiver) {
    let (host, port) = load.address().unwrap_or_default();
    // One place more than the window, for the DISCONNECT.
    let capacity = usize::from(load.in_flight) + 1;
    let id = scanner.id.as_str();
    let mut network = rumqttc::NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let transport = match load.tls_of(scanner) {
        None => rumqttc::Transport::Tcp,
        Some(config) => rumqttc::Transport::tls_with_config(rumqttc::TlsConfiguration::Rustls(config)),
    };
    match load.protocol {
        Protocol::V311 => {
            let mut options = rumqttc::MqttOptions::new(id, host, port);
            options
                .set_keep_alive(KEEP_ALIVE)
                .set_inflight(load.in_flight)
                .set_transport(transport)
                .set_clean_session(session == Session::Clean);
            if let Some(secret) = &scanner.secret {
                options.set_credentials(id, secret);
            }
            let (client, mut events) = rumqttc::AsyncClient::new(options, capacity);
            events.set_network_options(network);
            (Sender::V311(client), Receiver::V311(Box::new(events)))
        }
        Protocol::V5 => {
            let mut options = v5::MqttOptions::new(id, host, port);
            options
                .set_keep_alive(KEEP_ALIVE)
                .set_outgoing_inflight_upper_limit(load.in_flight)
                .set_clean_start(session != Session::Resume)
                .set_transport(transport)
                .set_network_options(network);
            if session != Session::Clean {
                options.set_session_expiry_interval(Some(SESSION_EXPIRY_SECONDS));
            }
            if let Some(secret) = &scanner.secret {
                options.set_credentials(id, secret);
            }
            let (client, events) = v5::AsyncClient::new(options, capacity);
            (Sender::V5(client), Receiver::V5(Box::new(events)))
        }
    }
}

impl Sender {
    /// Queues a publish. False when the queue is full, which the scanner's own window prevents.
    pub(crate) fn publish(&self, topic: &str, qos: Qos, payload: &Bytes) -> bool {
        match self {
            Self::V311(client) => client.try_publish(topic, v311_qos(qos), false, payload.to_vec()).is_ok(),
            Self::V5(client) => client.try_publish(topic, v5_qos(qos), false, payload.clone()).is_ok(),
        }
    }

    /// Queues a DISCONNECT behind what is queued.
    pub(crate) fn disconnect(&self) -> bool {
        match self {
            Self::V311(client) => client.try_disconnect().is_ok(),
            Self::V5(client) => client.try_disconnect().is_ok(),
        }
    }
}

impl Receiver {
    /// The next event, in the order of the wire. Dropping the future may lose a packet that is being written,
    /// so it is dropped only together with the connection.
    pub(crate) async fn poll(&mut self) -> io::Result<Signal> {
        match self {
            Self::V311(events) => events.poll().await.map(v311_signal).map_err(io::Error::other),
            Self::V5(events) => events.poll().await.map(v5_signal).map_err(io::Error::other),
        }
    }

    /// Puts publishes of the resumed session back on the wire with their packet ids and the DUP flag, or their
    /// releases where the broker has them.
    pub(crate) fn redeliver(&mut self, topic: &str, qos: Qos, again: Vec<Redelivery>) {
        for Redelivery { packet_id, payload } in again {
            match self {
                Self::V311(events) => events.pending.push_back(match payload {
                    None => rumqttc::Request::PubRel(rumqttc::PubRel::new(packet_id)),
                    Some(payload) => {
                        let mut publish = rumqttc::Publish::new(topic, v311_qos(qos), payload);
                        publish.dup = true;
                        publish.pkid = packet_id;
                        rumqttc::Request::Publish(publish)
                    }
                }),
                Self::V5(events) => events.pending.push_back(match payload {
                    None => v5::Request::PubRel(v5::mqttbytes::v5::PubRel::new(packet_id, None)),
                    Some(payload) => {
                        let mut publish = v5::mqttbytes::v5::Publish::new(topic, v5_qos(qos), payload, None);
                        publish.dup = true;
                        publish.pkid = packet_id;
                        v5::Request::Publish(publish)
                    }
                }),
            }
        }
    }
}

fn v311_qos(qos: Qos) -> rumqttc::QoS {
    match qos {
        Qos::AtMostOnce => rumqttc::QoS::AtMostOnce,
        Qos::AtLeastOnce => rumqttc::QoS::AtLeastOnce,
        Qos::ExactlyOnce => rumqttc::QoS::ExactlyOnce,
    }
}

fn v5_qos(qos: Qos) -> v5::mqttbytes::QoS {
    match qos {
        Qos::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
        Qos::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
        Qos::ExactlyOnce => v5::mqttbytes::QoS::ExactlyOnce,
    }
}

fn v311_signal(event: rumqttc::Event) -> Signal {
    use rumqttc::{Event, Packet};
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => {
            Signal::Connected { session_present: ack.session_present, receive_max: None }
        }
        Event::Incoming(Packet::PubAck(ack)) => Signal::Answered { packet_id: ack.pkid, refusal: None },
        Event::Incoming(Packet::PubRec(ack)) => Signal::Received(ack.pkid),
        Event::Incoming(Packet::PubComp(ack)) => Signal::Completed { packet_id: ack.pkid, known: true },
        Event::Outgoing(outgoing) => outgoing_signal(&outgoing),
        Event::Incoming(_) => Signal::Other,
    }
}

fn v5_signal(event: v5::Event) -> Signal {
    use v5::{
        Event,
        mqttbytes::v5::{Packet, PubAckReason, PubCompReason, PubRecReason},
    };
    match event {
        Event::Incoming(Packet::ConnAck(ack)) => Signal::Connected {
            session_present: ack.session_present,
            receive_max: ack.properties.and_then(|properties| properties.receive_max),
        },
        Event::Incoming(Packet::PubRec(ack)) => match ack.reason {
            PubRecReason::Success | PubRecReason::NoMatchingSubscribers => Signal::Received(ack.pkid),
            reason => Signal::Answered { packet_id: ack.pkid, refusal: Some(format!("{reason:?}")) },
        },
        Event::Incoming(Packet::PubComp(ack)) => {
            Signal::Completed { packet_id: ack.pkid, known: ack.reason == PubCompReason::Success }
        }
        Event::Incoming(Packet::PubAck(ack)) => {
            let refusal = match ack.reason {
                // 0x10 only adds that nobody subscribed: an acknowledgement all the same.
                PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
                reason => Some(format!("{reason:?}")),
            };
            Signal::Answered { packet_id: ack.pkid, refusal }
        }
        Event::Outgoing(outgoing) => outgoing_signal(&outgoing),
        Event::Incoming(_) => Signal::Other,
    }
}

fn outgoing_signal(outgoing: &rumqttc::Outgoing) -> Signal {
    match outgoing {
        rumqttc::Outgoing::Publish(packet_id) => Signal::Sent(*packet_id),
        rumqttc::Outgoing::Disconnect => Signal::Closing,
        _ => Signal::Other,
    }
}
