use super::*;

impl Hub {
    /// Ends the router's thread: what no client can send through the front.
    pub(crate) fn kill(&self) {
        if let Some(running) = lock(&self.state.running).as_mut() {
            running.publisher.publish(UNBEARABLE, Bytes::new()).unwrap();
        }
    }

    /// Lets the router hang until the answer is dropped.
    pub(crate) fn hang(&self) -> std::sync::mpsc::Sender<()> {
        /// A payload that is not easily thrown away.
        struct Sticky(std::sync::mpsc::Receiver<()>);
        impl AsRef<[u8]> for Sticky {
            fn as_ref(&self) -> &[u8] {
                b"?"
            }
        }
        impl Drop for Sticky {
            fn drop(&mut self) {
                let _ = self.0.recv();
            }
        }
        let (release, released) = std::sync::mpsc::channel();
        let opener = lock(&self.state.running).as_ref().map(|router| router.opener.clone()).unwrap();
        // The router throws away what nobody has subscribed to.
        opener("hanging", false).unwrap().0.publish("nobody", Bytes::from_owner(Sticky(released))).unwrap();
        release
    }
}

const TOPIC: &str = "devices/a/receipts";

async fn open(hub: &Hub) -> Link {
    let filters = BTreeSet::from([TOPIC.to_owned()]);
    hub.open(filters.clone(), filters).await.unwrap()
}

async fn told(hub: &Hub, link: &mut Link, text: &'static str) {
    let message = Message { topic: Bytes::from(TOPIC), payload: Bytes::from(text), qos: Qos::ExactlyOnce };
    hub.tell(TOPIC.into(), message.payload.clone(), message.qos);
    assert_eq!(link.next().await, Some(message));
}

#[tokio::test]
async fn only_subscribed_topics_reach_the_router_and_names_are_used_again() {
    let hub = Hub::start(4, 16).unwrap();
    assert!(!hub.has_listeners());
    hub.tell(TOPIC.into(), Bytes::from_static(b"nobody"), Qos::AtMostOnce);
    let mut link = open(&hub).await;
    assert!(hub.wants(TOPIC) && !hub.wants("devices/b/receipts"));
    told(&hub, &mut link, "one").await;
    drop(link);
    assert!(!hub.has_listeners() && !hub.wants(TOPIC));
    while lock(&hub.state.names).1.is_empty() {
        tokio::task::yield_now().await;
    }
    let mut again = open(&hub).await;
    assert_eq!(again.name, 1);
    told(&hub, &mut again, "two").await;
}

#[tokio::test]
async fn interest_follows_what_is_wanted_while_the_routes_stay() {
    let hub = Hub::start(4, 16).unwrap();
    let routes = BTreeSet::from(["devices/+/receipts".to_owned()]);
    let wanted = |id: &str| BTreeSet::from([format!("devices/{id}/receipts")]);
    let link = hub.open(routes.clone(), wanted("b")).await.unwrap();
    assert!(hub.wants("devices/b/receipts") && !hub.wants(TOPIC));
    let mut link = link.route(routes, wanted("a")).await.unwrap();
    assert!(hub.wants(TOPIC) && !hub.wants("devices/b/receipts"));
    told(&hub, &mut link, "one").await;
    assert_eq!((link.routes().len(), link.wanted()), (1, &wanted("a")));
    drop(link);
    assert!(!hub.has_listeners());
}

#[tokio::test]
async fn a_router_that_ended_is_replaced() {
    let hub = Hub::start(4, 16).unwrap();
    let mut link = open(&hub).await;
    // What no client can send through the front: this is one of the ways to end rumqttd's router.
    hub.kill();
    assert!(link.next().await.is_none());
    drop(link);
    let mut link = open(&hub).await;
    told(&hub, &mut link, "three").await;
}
