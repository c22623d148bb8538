//! What a device may do: pure rules over topics.

use crate::identity::Identity;

/// The topics below `devices/{id}/` that a device may subscribe to.
const OWN: [&str; 3] = ["receipts", "errors", "commands"];

/// SUBACK reason codes of MQTT 5; 3.1.1 knows only 0x80.
pub(crate) const NOT_AUTHORIZED: u8 = 0x87;
const SHARED_NOT_SUPPORTED: u8 = 0x9E;

/// Whether `topic` is one that the device's readings come on.
pub(crate) fn may_publish(identity: &Identity, topic: &str) -> bool {
    level(topic, identity.device.as_str()) == Some("readings") || identity.topic.as_deref() == Some(topic)
}

/// Whether the device may subscribe to `filter`; otherwise the reason code. Filters are exact: no wildcards.
pub(crate) fn may_subscribe(id: &str, filter: &str) -> Result<(), u8> {
    if filter.starts_with("$share/") {
        return Err(SHARED_NOT_SUPPORTED);
    }
    match level(filter, id) {
        Some(last) if OWN.contains(&last) => Ok(()),
        _ => Err(NOT_AUTHORIZED),
    }
}

/// Whether a will may go to `topic`.
pub(crate) fn may_will(id: &str, topic: &str) -> bool {
    level(topic, id) == Some("status")
}

/// `devices/{id}/readings`.
pub(crate) fn readings_topic(id: &str) -> String {
    format!("devices/{id}/readings")
}

/// What follows `devices/{id}/`.
fn level<'a>(topic: &'a str, id: &str) -> Option<&'a str> {
    topic.strip_prefix("devices/")?.strip_prefix(id)?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use windlass_reading::DeviceId;

    use super::*;

    #[test]
    fn a_device_publishes_on_its_own_topics_only() {
        let mut me = Identity { device: DeviceId::new("5446078").unwrap(), secret: None, topic: None };
        assert!(may_publish(&me, "devices/5446078/readings"));
        for foreign in [
            "5446078",
            "",
            "devices/5446078/receipts",
            "devices/54460789/readings",
            "devices/5446078/readings/",
            "devices/5446078/readings/x",
            "/devices/5446078/readings",
            "devices/+/readings",
            "é",
            "$SYS/x",
            "devices/dock-7/readings",
        ] {
            assert!(!may_publish(&me, foreign), "{foreign}");
        }
        me.topic = Some("5446078".into());
        assert!(may_publish(&me, "5446078"));
        assert!(may_publish(&me, "devices/5446078/readings"));
    }

    #[test]
    fn a_device_subscribes_to_its_own_three_topics_only() {
        for own in OWN {
            assert_eq!(may_subscribe("a", &format!("devices/a/{own}")), Ok(()));
        }
        for foreign in [
            "#",
            "+",
            "devices/a/#",
            "devices/a/+",
            "devices/b/receipts",
            "devices/a/readings",
            "$SYS/#",
            "é/#",
            "a#b",
            "",
        ] {
            assert_eq!(may_subscribe("a", foreign), Err(NOT_AUTHORIZED), "{foreign}");
        }
        assert_eq!(may_subscribe("a", "$share/g/devices/a/receipts"), Err(SHARED_NOT_SUPPORTED));
        assert!(may_will("a", "devices/a/status") && !may_will("a", "devices/b/status") && !may_will("a", "é"));
    }
}
