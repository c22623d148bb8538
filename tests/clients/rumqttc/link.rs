//! Both of rumqttc's clients, seen as one.

use std::time::Duration;

use rumqttc::{Outgoing, v5};

use crate::Arguments;

/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What an event of either protocol means here.
pub(crate) enum Signal {
    Connected { kept: bool },
    Granted(String),
    Sent,
    Acknowledged,
    Refused(String),
    Receipt(Vec<u8>),
    Left,
    Closed(String),
    Other,
}

/// A client with its connection.
pub(crate) enum Link {
    V311(rumqttc::Client, Box<rumqttc::Connection>),
    V5(v5::Client, Box<v5::Connection>),
}

impl Link {
    pub(crate) fn open(arguments: &Arguments, keep: bool) -> Self {
        if arguments.options["protocol"] == "5" { Self::v5(arguments, keep) } else { Self::v311(arguments, keep) }
    }

    fn v311(arguments: &Arguments, keep: bool) -> Self {
        let (host, port, transport) = arguments.address();
        let mut options = rumqttc::MqttOptions::new(arguments.id(), host, port);
        options.set_transport(transport).set_clean_session(!keep);
        if let Some(secret) = arguments.options.get("secret") {
            options.set_credentials(arguments.id(), secret);
        }
        if keep {
            let will = rumqttc::LastWill::new(arguments.topic("status"), "gone", rumqttc::QoS::AtLeastOnce, false);
            options.set_last_will(will);
        }
        let (client, mut connection) = rumqttc::Client::new(options, 10);
        let mut network = rumqttc::NetworkOptions::new();
        network.set_connection_timeout(PATIENCE.as_secs());
        connection.eventloop.set_network_options(network);
        Self::V311(client, Box::new(connection))
    }

    fn v5(arguments: &Arguments, keep: bool) -> Self {
        use v5::mqttbytes::{QoS, v5::LastWill};
        let (host, port, transport) = arguments.address();
        let mut options = v5::MqttOptions::new(arguments.id(), host, port);
        options.set_transport(transport).set_clean_start(!keep).set_connection_timeout(PATIENCE.as_secs());
        options.set_session_expiry_interval(keep.then_some(3600));
        if let Some(secret) = arguments.options.get("secret") {
            options.set_credentials(arguments.id(), secret);
        }
        if keep {
            options.set_last_will(LastWill::new(arguments.topic("status"), "gone", QoS::AtLeastOnce, false, None));
        }
        let (client, connection) = v5::Client::new(options, 10);
        Self::V5(client, Box::new(connection))
    }

    pub(crate) fn subscribe(&self, filter: String) {
        match self {
            Self::V311(client, _) => client.subscribe(filter, rumqttc::QoS::AtLeastOnce).unwrap(),
            Self::V5(client, _) => client.subscribe(filter, v5::mqttbytes::QoS::AtLeastOnce).unwrap(),
        }
    }

    pub(crate) fn publish(&self, qos: u8, topic: &str, payload: &str) {
        match self {
            Self::V311(client, _) => client.publish(topic, rumqttc::qos(qos).unwrap(), false, payload).unwrap(),
            Self::V5(client, _) => {
                client.publish(topic, v5::mqttbytes::qos(qos).unwrap(), false, payload.to_owned()).unwrap();
            }
        }
    }

    pub(crate) fn disconnect(&self) {
        match self {
            Self::V311(client, _) => client.disconnect().unwrap(),
            Self::V5(client, _) => client.disconnect().unwrap(),
        }
    }

    /// The next event; `None` when there was none for too long.
    pub(crate) fn next(&mut self) -> Option<Signal> {
        match self {
            Self::V311(_, connection) => Some(v311_signal(connection.recv_timeout(PATIENCE).ok()?)),
            Self::V5(_, connection) => Some(v5_signal(connection.recv_timeout(PATIENCE).ok()?)),
        }
    }
}

fn v311_signal(event: Result<rumqttc::Event, rumqttc::ConnectionError>) -> Signal {
    use rumqttc::{ConnectionError, Event, Packet};
    match event {
        Ok(Event::Incoming(Packet::ConnAck(ack))) => Signal::Connected { kept: ack.session_present },
        Ok(Event::Incoming(Packet::SubAck(ack))) => Signal::Granted(format!("{:?}", ack.return_codes[0])),
        Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Signal::Acknowledged,
        Ok(Event::Incoming(Packet::Publish(message))) => Signal::Receipt(message.payload.into()),
        Ok(Event::Outgoing(outgoing)) => outgoing_signal(&outgoing),
        Ok(Event::Incoming(_)) => Signal::Other,
        Err(error @ ConnectionError::ConnectionRefused(_)) => Signal::Refused(error.to_string()),
        Err(error) => Signal::Closed(error.to_string()),
    }
}

fn v5_signal(event: Result<v5::Event, v5::ConnectionError>) -> Signal {
    use v5::{
        ConnectionError, Event,
        mqttbytes::v5::{Packet, PubAckReason, PubCompReason, PubRecReason},
    };
    match event {
        Ok(Event::Incoming(Packet::ConnAck(ack))) => Signal::Connected { kept: ack.session_present },
        Ok(Event::Incoming(Packet::SubAck(ack))) => Signal::Granted(format!("{:?}", ack.return_codes[0])),
        Ok(Event::Incoming(Packet::PubAck(ack))) => match ack.reason {
            PubAckReason::Success => Signal::Acknowledged,
            reason => Signal::Refused(format!("{reason:?}")),
        },
        Ok(Event::Incoming(Packet::PubRec(ack))) => match ack.reason {
            PubRecReason::Success => Signal::Other,
            reason => Signal::Refused(format!("{reason:?}")),
        },
        Ok(Event::Incoming(Packet::PubComp(ack))) => match ack.reason {
            PubCompReason::Success => Signal::Acknowledged,
            reason => Signal::Refused(format!("{reason:?}")),
        },
        Ok(Event::Incoming(Packet::Publish(message))) => Signal::Receipt(message.payload.into()),
        Ok(Event::Outgoing(outgoing)) => outgoing_signal(&outgoing),
        Ok(Event::Incoming(_)) => Signal::Other,
        Err(error @ ConnectionError::ConnectionRefused(_)) => Signal::Refused(error.to_string()),
        Err(error) => Signal::Closed(error.to_string()),
    }
}

fn outgoing_signal(outgoing: &Outgoing) -> Signal {
    match outgoing {
        Outgoing::Publish(_) => Signal::Sent,
        Outgoing::Disconnect => Signal::Left,
        _ => Signal::Other,
    }
}
