//! What a device may do: pure rules over topics.

use std::collections::BTreeSet;

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

/// Whether a user with the filters `allowed` may subscribe to `filter`; otherwise the reason code.
pub(crate) fn may_listen(allowed: &[String], filter: &str) -> Result<(), u8> {
    if filter.starts_with("$share/") {
        return Err(SHARED_NOT_SUPPORTED);
    }
    let covered = allowed.iter().any(|wide| covers(wide, filter));
    if is_filter(filter) && covered { Ok(()) } else { Err(NOT_AUTHORIZED) }
}

/// Whether `filter` is well formed and below `devices/`: the wildcards stand for whole levels, `#` for the last.
pub fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    let mut good = filter.starts_with("devices/");
    while let Some(level) = levels.next() {
        good &= match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            _ => !level.contains(['+', '#', '\0']),
        };
    }
    good
}

/// Whether every topic that `narrow` matches is one that `wide` matches. A topic is a filter that matches itself.
pub(crate) fn covers(wide: &str, narrow: &str) -> bool {
    let mut narrow = narrow.split('/');
    for level in wide.split('/') {
        match (level, narrow.next()) {
            ("#", _) => return true,
            (_, None | Some("#")) => return false,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    narrow.next().is_none()
}

/// The filters of `allowed` on which a user hears what it wants. The router is given these and no filter of a client: it
/// keeps a log for each filter that it ever saw.
pub(crate) fn routes(allowed: &[String], wanted: &BTreeSet<String>) -> BTreeSet<String> {
    let route = |filter: &String| allowed.iter().find(|wide| covers(wide, filter));
    let chosen: BTreeSet<&String> = wanted.iter().filter_map(route).collect();
    // One within another would bring its messages twice.
    let widest = |route: &&&String| !chosen.iter().any(|other| other != *route && covers(other, route));
    chosen.iter().filter(widest).map(|route| (*route).clone()).collect()
}

/// The device whose own topic this is.
pub(crate) fn owner(topic: &str) -> Option<&str> {
    let (id, _) = topic.strip_prefix("devices/")?.split_once('/')?;
    Some(id)
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
    fn a_user_hears_what_its_filters_cover_and_nothing_wider() {
        let allowed = vec!["devices/+/receipts".to_owned(), "devices/dock-7/#".to_owned()];
        for filter in [
            "devices/+/receipts",
            "devices/a/receipts",
            "devices/dock-7/#",
            "devices/dock-7/+",
            "devices/dock-7/errors",
        ] {
            assert_eq!(may_listen(&allowed, filter), Ok(()), "{filter}");
        }
        for filter in [
            "#",
            "devices/#",
            "devices/+/+",
            "devices/+/errors",
            "devices/dock-8/#",
            "devices/a/receipts/x",
            "$SYS/#",
            "é",
            "",
        ] {
            assert_eq!(may_listen(&allowed, filter), Err(NOT_AUTHORIZED), "{filter}");
        }
        assert_eq!(may_listen(&allowed, "$share/g/devices/+/receipts"), Err(SHARED_NOT_SUPPORTED));
        for bad in ["devices/#/x", "devices/a#", "devices/+a/x", "a/b", "devices", "#", "devices/\0/x"] {
            assert!(!is_filter(bad) && may_listen(&["devices/#".to_owned()], bad).is_err(), "{bad:?}");
        }
        assert!(
            covers("devices/#", "devices/a/b")
                && covers("devices/a/b", "devices/a/b")
                && !covers("devices/+", "devices/a/b")
        );
        assert!(covers("devices/#", "devices") && !covers("devices/a", "devices"));
        assert_eq!((owner("devices/a/receipts"), owner("devices/a"), owner("x/a/b")), (Some("a"), None, None));
    }

    #[test]
    fn the_router_gets_no_filter_but_those_of_the_config() {
        let allowed = ["devices/+/receipts", "devices/+/errors", "devices/a/#"].map(str::to_owned);
        let routed = |wanted: &[&str]| {
            let wanted = wanted.iter().map(|filter| (*filter).to_owned()).collect();
            routes(&allowed, &wanted).into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(routed(&[]), "");
        assert_eq!(routed(&["devices/x/receipts", "devices/y/receipts"]), "devices/+/receipts");
        assert_eq!(routed(&["devices/x/errors", "devices/a/commands"]), "devices/+/errors devices/a/#");
        let narrow = ["devices/a/receipts".to_owned(), "devices/+/receipts".to_owned()];
        let wanted = narrow.iter().cloned().collect();
        assert_eq!(routes(&narrow, &wanted).into_iter().collect::<Vec<_>>(), ["devices/+/receipts"]);
        let many = (0..1_000).map(|n| format!("devices/{n}/receipts")).collect();
        assert_eq!(routes(&allowed, &many).len(), 1);
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
