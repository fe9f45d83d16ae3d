//! Chains, search paths and other servers, played by sockets on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::{A, SOA};
use tokio::net::UdpSocket;

use super::*;
use crate::pods::Pod;
use crate::zone::{Service, Zone};

const CLIENT: &str = "10.244.0.5";

/// A server that knows addresses of a few names, and counts what it is asked.
struct Other {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Other {
    async fn start(names: &'static [(&'static str, [u8; 4])]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&question, names).to_vec().unwrap();
                // A stranger's guess comes first.
                let mut forged = answer.clone();
                forged[1] ^= 1;
                socket.send_to(&forged, from).await.unwrap();
                socket.send_to(&answer, from).await.unwrap();
            }
        });
        Self { addr, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(question: &Message, names: &[(&str, [u8; 4])]) -> Message {
    let query = question.queries[0].clone();
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    let found = names.iter().find(|(name, _)| query.name.to_string() == *name);
    match found {
        Some((_, ip)) if query.query_type == RecordType::A => {
            let data = RData::A(A::from(std::net::Ipv4Addr::from(*ip)));
            answer.add_answer(Record::from_rdata(query.name, 60, data));
        }
        found => {
            if found.is_none() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let root = Name::root();
            let soa = RData::SOA(SOA::new(root.clone(), root.clone(), 1, 1, 1, 1, 60));
            answer.add_authority(Record::from_rdata(root, 60, soa));
        }
    }
    answer
}

/// A cluster with a Pod in namespace `shop`, asking these servers.
fn resolver(servers: &[SocketAddr]) -> Arc<Resolver> {
    let mut zone = Zone::new(&"cluster.local.".parse().unwrap(), vec![]);
    let web = Service::Addresses { ips: vec!["10.96.0.20".parse().unwrap()], ports: vec![] };
    zone.set_service("other", "web", Some(web));
    let external = |target: &str| Some(Service::External(Box::new(target.parse().unwrap())));
    zone.set_service("shop", "site", external("www.example.com."));
    zone.set_service("shop", "again", external("site.shop.svc.cluster.local."));
    zone.set_service("shop", "inside", external("web.other.svc.cluster.local."));
    zone.set_service("shop", "self", external("self.shop.svc.cluster.local."));
    zone.set_service("shop", "ping", external("pong.shop.svc.cluster.local."));
    zone.set_service("shop", "pong", external("ping.shop.svc.cluster.local."));
    for number in 0..20 {
        let target = format!("chain-{}.shop.svc.cluster.local.", number + 1);
        zone.set_service("shop", &format!("chain-{number}"), external(&target));
    }
    let pod = Pod {
        namespace: "shop".into(),
        name: "client".into(),
        ips: vec![CLIENT.parse().unwrap()],
        host_network: false,
        config: None,
    };
    zone.set_pod("shop", "client", Some(pod));
    let resolver = Resolver::new(Arc::new(Book::new(zone)));
    resolver.upstreams.set(servers);
    resolver
}

async fn ask(resolver: &Arc<Resolver>, name: &str, kind: RecordType, client: &str) -> Found {
    let name = Name::from_ascii(name).unwrap();
    let client = client.parse().unwrap();
    resolver.resolve(Asked { name: &name, kind, wishes: Wishes::default(), client }).await
}

fn text(found: &Found) -> Vec<String> {
    let text = |record: &Record| format!("{} {}", record.name, record.data);
    found.reply.answers.iter().map(text).collect()
}

const OUTSIDE: &[(&str, [u8; 4])] = &[("www.example.com.", [192, 0, 2, 80])];

#[tokio::test]
async fn another_name_is_answered_with_its_target() {
    let other = Other::start(OUTSIDE).await;
    let resolver = resolver(&[other.addr]);
    let found = ask(&resolver, "site.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!(
        text(&found),
        ["site.shop.svc.cluster.local. www.example.com.", "www.example.com. 192.0.2.80"]
    );
    assert!(found.reply.authoritative);
    let sources: Vec<Source> = found.steps.iter().map(|step| step.source).collect();
    assert_eq!(sources, [Source::Zone, Source::Upstream(other.addr)]);
    let found = ask(&resolver, "again.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!((found.reply.answers.len(), other.asked()), (3, 1), "it is in the cache now");
    let found = ask(&resolver, "inside.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!(text(&found)[1], "web.other.svc.cluster.local. 10.96.0.20");
    let found = ask(&resolver, "site.shop.svc.cluster.local.", RecordType::CNAME, CLIENT).await;
    assert_eq!(found.reply.answers.len(), 1, "who asks for the alias gets the alias");
}

#[tokio::test]
async fn chains_without_an_end_end() {
    let resolver = resolver(&[]);
    for name in ["self", "ping", "chain-0"] {
        let name = format!("{name}.shop.svc.cluster.local.");
        let found = ask(&resolver, &name, RecordType::A, CLIENT).await;
        assert_eq!(found.reply.code, ResponseCode::ServFail, "{name}");
        assert!(found.steps.len() <= LONGEST_CHAIN);
        assert!(found.steps.last().unwrap().trouble.is_some());
    }
    let found = ask(&resolver, "chain-15.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!((found.reply.code, found.reply.answers.len()), (ResponseCode::NXDomain, 5));
}

#[tokio::test]
async fn a_search_path_is_completed_in_one_round_trip() {
    let other = Other::start(OUTSIDE).await;
    let resolver = resolver(&[other.addr]);
    let found =
        ask(&resolver, "www.example.com.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!(
        text(&found),
        ["www.example.com.shop.svc.cluster.local. www.example.com.", "www.example.com. 192.0.2.80"]
    );
    assert_eq!(other.asked(), 1, "only the whole name goes out");
    // The other family of the same name: it is there, but has no such records.
    let found =
        ask(&resolver, "www.example.com.shop.svc.cluster.local.", RecordType::AAAA, CLIENT).await;
    assert_eq!((found.reply.code, found.reply.answers.len()), (ResponseCode::NoError, 1));
    let found = ask(&resolver, "web.other.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!(text(&found)[1], "web.other.svc.cluster.local. 10.96.0.20");
}

#[tokio::test]
async fn the_nodes_own_domains_stand_in_the_path_as_well() {
    const NAMES: &[(&str, [u8; 4])] =
        &[("www.example.com.", [192, 0, 2, 80]), ("www.example.com.lan.", [192, 0, 2, 81])];
    let other = Other::start(NAMES).await;
    let resolver = resolver(&[other.addr]);
    let name = "www.example.com.shop.svc.cluster.local.";
    let found = ask(&resolver, name, RecordType::A, CLIENT).await;
    assert_eq!(text(&found)[1], "www.example.com. 192.0.2.80");
    let generation = resolver.book.generation();
    resolver.surround(|of| of.searches = vec!["lan".to_owned()]);
    assert_ne!(resolver.book.generation(), generation, "what was ready is so no more");
    let found = ask(&resolver, name, RecordType::A, CLIENT).await;
    assert_eq!(text(&found)[1], "www.example.com.lan. 192.0.2.81", "as a pod would find it");
}

#[tokio::test]
async fn nobody_elses_search_path_is_completed() {
    let other = Other::start(OUTSIDE).await;
    let resolver = resolver(&[other.addr]);
    let name = "www.example.com.shop.svc.cluster.local.";
    for client in ["10.244.0.6", "192.168.56.70"] {
        let found = ask(&resolver, name, RecordType::A, client).await;
        assert_eq!(found.reply.code, ResponseCode::NXDomain, "{client}");
    }
    let name = "www.example.com.other.svc.cluster.local.";
    let found = ask(&resolver, name, RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::NXDomain);
    let found = ask(&resolver, "none.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!((found.reply.code, found.steps.len()), (ResponseCode::NXDomain, 3));
    assert_eq!(other.asked(), 0, "a lone label is not told to others");
}

#[tokio::test]
async fn answers_and_refusals_are_kept() {
    let other = Other::start(OUTSIDE).await;
    let resolver = resolver(&[other.addr]);
    for _ in 0..3 {
        assert_eq!(text(&ask(&resolver, "WWW.example.com.", RecordType::A, CLIENT).await).len(), 1);
        let none = ask(&resolver, "none.example.com.", RecordType::A, CLIENT).await;
        assert_eq!(none.reply.code, ResponseCode::NXDomain);
    }
    assert_eq!(other.asked(), 2);
    assert_eq!(resolver.upstreams.failed.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_question_that_many_ask_goes_out_once() {
    let other = Other::start(OUTSIDE).await;
    let resolver = resolver(&[other.addr]);
    let asked = (0..50).map(|_| ask(&resolver, "www.example.com.", RecordType::A, CLIENT));
    let answers = futures::future::join_all(asked).await;
    assert!(answers.iter().all(|found| found.reply.answers.len() == 1));
    assert_eq!(other.asked(), 1);
    assert!(resolver.waiting.lock().unwrap().is_empty());
}

#[tokio::test]
async fn another_server_takes_over_from_one_that_is_silent() {
    // It takes questions and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let other = Other::start(OUTSIDE).await;
    let resolver = resolver(&[silent.local_addr().unwrap(), other.addr]);
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.steps[0].source, Source::Upstream(other.addr));
    // It is not asked first again for a while.
    ask(&resolver, "none.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(resolver.upstreams.failed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn without_servers_the_answer_is_quick() {
    let resolver = resolver(&[]);
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::ServFail);
    assert_eq!(found.steps[0].source, Source::Nobody);
    assert!(found.steps[0].trouble.as_ref().unwrap().contains("no server"));
}

/// On a stopped clock, which runs on while everybody waits: what is told is how long they meant to.
#[tokio::test(start_paused = true)]
async fn a_client_has_its_answer_before_it_gives_up() {
    let silent = [
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
        UdpSocket::bind("127.0.0.1:0").await.unwrap(),
    ];
    let addrs = silent.each_ref().map(|socket| socket.local_addr().unwrap());
    let resolver = resolver(&addrs);
    let began = tokio::time::Instant::now();
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::ServFail);
    assert!(began.elapsed() < Duration::from_secs(5), "libc waits for five seconds: {:?}", began);
    let trouble = found.steps[0].trouble.clone().unwrap();
    assert!(addrs.iter().all(|addr| trouble.contains(&addr.to_string())), "{trouble}");
}

#[tokio::test(start_paused = true)]
async fn many_silent_servers_take_no_longer_than_few() {
    let mut silent = Vec::new();
    for _ in 0..6 {
        silent.push(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    }
    let addrs: Vec<SocketAddr> = silent.iter().map(|it| it.local_addr().unwrap()).collect();
    let resolver = resolver(&addrs);
    let mut troubles = Vec::new();
    for _ in 0..2 {
        let began = tokio::time::Instant::now();
        let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
        assert_eq!(found.reply.code, ResponseCode::ServFail);
        let took = began.elapsed();
        assert!(took < Duration::from_millis(4100), "libc waits for five seconds: {took:?}");
        troubles.push(found.steps[0].trouble.clone().unwrap());
    }
    // Who was not asked in time, or hardly, comes first when the client asks again.
    let order = |trouble: &str| -> Vec<Option<usize>> {
        addrs.iter().map(|addr| trouble.find(&addr.to_string())).collect()
    };
    let [first, second] = [order(&troubles[0]), order(&troubles[1])];
    assert!(first[..4].iter().all(Option::is_some) && first[4..] == [None; 2], "{troubles:?}");
    assert!(second[3..].iter().all(Option::is_some), "{troubles:?}");
    assert!(second[3..].is_sorted() && second[5] < second[0], "{troubles:?}");
}

/// The bytes of an answer to a question and its bytes.
type How = fn(&Message, &[u8]) -> Vec<u8>;

/// A server that answers as `how` says, and counts what it is asked.
async fn odd_server(how: How) -> Other {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let question = Message::from_vec(&buffer[..length]).unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            socket.send_to(&how(&question, &buffer[..length]), from).await.unwrap();
        }
    });
    Other { addr, asked }
}

#[tokio::test]
async fn a_server_that_knows_no_edns_is_asked_without() {
    let ways: [How; 2] = [
        |question, bytes| match question.edns {
            Some(_) => crate::message::header_only(bytes, ResponseCode::FormErr),
            None => answer(question, OUTSIDE).to_vec().unwrap(),
        },
        |question, _| match question.edns {
            Some(_) => {
                let mut refusal = question.clone();
                refusal.metadata.message_type = MessageType::Response;
                refusal.metadata.response_code = ResponseCode::NotImp;
                refusal.edns = None;
                refusal.to_vec().unwrap()
            }
            None => answer(question, OUTSIDE).to_vec().unwrap(),
        },
    ];
    for way in ways {
        let old = odd_server(way).await;
        let resolver = resolver(&[old.addr]);
        let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
        assert_eq!(text(&found), ["www.example.com. 192.0.2.80"]);
        assert_eq!(old.asked(), 2);
        // For a while it is spoken to as it understands.
        ask(&resolver, "none.example.com.", RecordType::A, CLIENT).await;
        assert_eq!(old.asked(), 3);
        // Then it may have learned more, or not.
        tokio::time::pause();
        tokio::time::advance(crate::upstream::PLAIN).await;
        tokio::time::resume();
        for (name, asked) in [("later.example.com.", 5), ("again.example.com.", 6)] {
            ask(&resolver, name, RecordType::A, CLIENT).await;
            assert_eq!(old.asked(), asked, "{name}");
        }
    }
}

#[tokio::test]
async fn a_server_that_understands_nothing_is_no_end() {
    let deaf =
        odd_server(|_, bytes| crate::message::header_only(bytes, ResponseCode::FormErr)).await;
    let resolver = resolver(&[deaf.addr]);
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::FormErr);
    assert_eq!(deaf.asked(), 4, "twice with EDNS, twice without");
}

/// A server that finds nothing out.
fn failure(question: &Message, _: &[u8]) -> Vec<u8> {
    let mut answer = question.clone();
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.response_code = ResponseCode::ServFail;
    answer.to_vec().unwrap()
}

#[tokio::test]
async fn what_is_over_is_told_when_nobody_can_say() {
    let unable = odd_server(failure).await;
    let resolver = resolver(&[unable.addr]);
    // It was good for a minute, a minute ago.
    let name = Name::from_ascii("www.example.com.").unwrap();
    let kept = Key { name: name.clone(), kind: RecordType::A, wishes: Wishes::default() };
    let data = RData::A(A::new(192, 0, 2, 80));
    let answers = vec![Record::from_rdata(name, 60, data)];
    let reply = Reply { answers, ..Reply::code(ResponseCode::NoError) };
    let then = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    resolver.cache().put(kept, &reply, then);
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.source(), Source::Stale);
    assert!(unable.asked() > 0, "it might have known");
    assert_eq!(text(&found), ["www.example.com. 192.0.2.80"]);
    let trouble = found.steps[0].trouble.as_ref().unwrap();
    assert!(trouble.contains(&unable.addr.to_string()), "{trouble}");
    // What nobody ever knew, and what a server says is not there, is not made up.
    let found = ask(&resolver, "new.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::ServFail);
    assert_eq!(found.source(), Source::Upstream(unable.addr));
    let empty = Other::start(&[]).await;
    resolver.upstreams.set(&[empty.addr]);
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_server_that_can_not_say_is_passed_over() {
    let unable = odd_server(failure).await;
    let other = Other::start(OUTSIDE).await;
    let found = {
        let resolver = resolver(&[unable.addr, other.addr]);
        ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await
    };
    assert_eq!(found.steps[0].source, Source::Upstream(other.addr));
    assert_eq!((unable.asked(), other.asked()), (1, 1));
    let resolver = resolver(&[unable.addr]);
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::ServFail, "nobody else is there to ask");
    assert_eq!(
        resolver
            .now(Asked {
                name: &Name::from_ascii("www.example.com.").unwrap(),
                kind: RecordType::A,
                wishes: Wishes::default(),
                client: CLIENT.parse().unwrap(),
            })
            .map(|known| known.reply.code),
        None,
        "that is not kept"
    );
}

#[tokio::test]
async fn what_no_datagram_carries_is_fetched_by_tcp() {
    let truncated: How = |question, _| {
        let mut answer = question.clone();
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.truncation = true;
        answer.to_vec().unwrap()
    };
    // A port that is free for UDP may be taken for TCP, by a connection that is over.
    let mut ports = 0;
    let (cut, listener) = loop {
        let cut = odd_server(truncated).await;
        match tokio::net::TcpListener::bind(cut.addr).await {
            Ok(listener) => break (cut, listener),
            Err(error) => assert!(ports < 10, "{error}"),
        }
        ports += 1;
    };
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut packet = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut packet).await.unwrap();
        let question = Message::from_vec(&packet).unwrap();
        let mut whole = answer(&question, &[]);
        whole.metadata.response_code = ResponseCode::NoError;
        let name = question.queries[0].name.clone();
        for last in 0..200 {
            let data = RData::A(A::new(192, 0, 2, last));
            whole.add_answer(Record::from_rdata(name.clone(), 60, data));
        }
        let bytes = whole.to_vec().unwrap();
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &bytes].concat()).await.unwrap();
    });
    let resolver = resolver(&[cut.addr]);
    let found = ask(&resolver, "many.example.com.", RecordType::A, CLIENT).await;
    assert_eq!((found.reply.code, found.reply.answers.len()), (ResponseCode::NoError, 200));
}

/// A name outside that leads into the cluster: only we can follow it.
#[tokio::test]
async fn a_chain_may_leave_the_cluster_and_come_back() {
    let outside = odd_server(|question, _| {
        let query = question.queries[0].clone();
        let mut answer = question.clone();
        answer.metadata.message_type = MessageType::Response;
        // Nobody outside knows the target.
        answer.metadata.response_code = ResponseCode::NXDomain;
        let target: Name = match query.name.to_string().as_str() {
            "www.example.com." => "web.other.svc.cluster.local.".parse().unwrap(),
            _ => "site.shop.svc.cluster.local.".parse().unwrap(),
        };
        let alias = RData::CNAME(CNAME(target));
        answer.add_answer(Record::from_rdata(query.name, 60, alias));
        answer.to_vec().unwrap()
    })
    .await;
    let resolver = resolver(&[outside.addr]);
    let found = ask(&resolver, "www.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(
        text(&found),
        [
            "www.example.com. web.other.svc.cluster.local.",
            "web.other.svc.cluster.local. 10.96.0.20"
        ]
    );
    assert!(!found.reply.authoritative, "the name asked for is not ours");
    let found = ask(&resolver, "site.shop.svc.cluster.local.", RecordType::A, CLIENT).await;
    assert_eq!((found.reply.code, text(&found).len()), (ResponseCode::NoError, 3));
    assert!(found.reply.authoritative);
    // Out, in, and out again to where it was.
    let found = ask(&resolver, "round.example.com.", RecordType::A, CLIENT).await;
    assert_eq!(found.reply.code, ResponseCode::NoError, "{:?}", text(&found));
    let cname = ask(&resolver, "www.example.com.", RecordType::CNAME, CLIENT).await;
    assert_eq!(text(&cname).len(), 1);
}

#[tokio::test]
async fn what_is_known_is_told_at_once() {
    let other = Other::start(OUTSIDE).await;
    let resolver = resolver(&[other.addr]);
    let now = |name: &str, kind: RecordType| {
        let (name, client) = (Name::from_ascii(name).unwrap(), CLIENT.parse().unwrap());
        let known = resolver.now(Asked { name: &name, kind, wishes: Wishes::default(), client })?;
        Some((known.reply.code, known.for_all, known.lasting, known.reply.answers.len()))
    };
    let (there, none) = (ResponseCode::NoError, ResponseCode::NXDomain);
    let a = RecordType::A;
    // In the zone, and what is not there after the whole search path.
    assert_eq!(now("web.other.svc.cluster.local.", a), Some((there, true, true, 1)));
    assert_eq!(now("inside.shop.svc.cluster.local.", a), Some((there, true, true, 2)));
    assert_eq!(now("none.shop.svc.cluster.local.", a), Some((none, false, true, 0)));
    // Another server must be asked first.
    let long = "www.example.com.shop.svc.cluster.local.";
    for name in ["www.example.com.", "site.shop.svc.cluster.local.", long] {
        assert_eq!(now(name, a), None, "{name}");
    }
    ask(&resolver, long, a, CLIENT).await;
    assert_eq!(now("www.example.com.", a), Some((there, true, false, 1)));
    assert_eq!(now("site.shop.svc.cluster.local.", a), Some((there, true, false, 2)));
    assert_eq!(now(long, a), Some((there, false, false, 2)));
    assert_eq!(other.asked(), 1);
}
