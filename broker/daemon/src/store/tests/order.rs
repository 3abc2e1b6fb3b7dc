//! Decide, store, apply: in that order, and what a kill or a full disk leaves of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use signet_registry::audit::Head;
use signet_registry::{Attempt, RegistryError};

use super::*;
use crate::store::writer::Job;
use crate::store::{AuditQuery, ExecuteError, Pending, StoreError, verify_file};

#[test]
fn a_command_that_was_answered_is_there_after_a_kill() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let held = authority.issue(&service, "sensor-1");
    held.revoke(&service);

    let killed = home.as_if_killed();
    let reopened = killed.open();
    assert_eq!(held.standing(&reopened), "revoked");
    same(&service, &reopened);
}

#[test]
fn a_registry_is_the_sum_of_its_events() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    for thing in ["a", "b", "c"] {
        let held = authority.issue(&service, thing);
        assert_eq!(held.standing(&service), "active");
        if thing == "b" {
            held.revoke(&service);
        }
    }
    assert_eq!(replayed(&service), *service.snapshot());
    let head = service.head();
    drop(service);
    assert_eq!(home.open().head(), head);
}

#[test]
fn a_refused_command_leaves_no_row_and_one_before_and_after_it_do() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let refused = service.execute(add("a"), operator()).unwrap_err();
    assert!(matches!(refused, ExecuteError::Refused(RegistryError::ThingExists(_))), "{refused}");
    assert_eq!(service.head().seq, 1);
    service.execute(add("b"), operator()).unwrap();
    assert_eq!(service.head().seq, 2);
    assert_eq!(service.stats().refused, 1);
}

#[test]
fn who_reads_the_trail_finds_what_was_recorded_just_before() {
    let home = Home::new();
    let service = home.open();
    for refusals in 1..=100 {
        service.record_refusal(Attempt::Issue, &"the key is weak", 0, Actor::Broker);
        let rows = service.audit(&AuditQuery { at_most: 1_000, ..Default::default() }).unwrap();
        assert_eq!(rows.len(), refusals);
    }
}

#[test]
fn commands_that_wait_together_share_few_transactions_and_keep_their_order() {
    let home = Home::new();
    let service = home.open();
    // The writer is held until all of them wait, so that it is not the speed of this machine that is tried.
    let (hold, held) = mpsc::channel::<()>();
    service.send(Job::Inspect(Box::new(move |_| held.recv().unwrap())));
    let pending: Vec<Pending> =
        (0..1000).map(|n| service.submit(add(&format!("thing-{n:04}")), operator())).collect();
    hold.send(()).unwrap();
    for pending in pending {
        pending.wait().unwrap();
    }
    let stats = service.stats();
    assert_eq!((stats.commands, stats.events), (1000, 1000));
    assert!(stats.transactions <= 3, "{} transactions", stats.transactions);
    let query = AuditQuery { oldest_first: true, at_most: 2, ..Default::default() };
    let first: Vec<String> = service.audit(&query).unwrap().iter().map(|r| r.row.event.clone()).collect();
    assert!(first[0].contains("thing-0000") && first[1].contains("thing-0001"), "{first:?}");
}

#[test]
fn a_command_sees_what_an_earlier_one_of_the_same_transaction_did() {
    let home = Home::new();
    let service = home.open();
    let (hold, held) = mpsc::channel::<()>();
    service.send(Job::Inspect(Box::new(move |_| held.recv().unwrap())));
    let first = service.submit(add("a"), operator());
    let second = service.submit(add("a"), operator());
    hold.send(()).unwrap();
    first.wait().unwrap();
    assert!(matches!(second.wait().unwrap_err(), ExecuteError::Refused(RegistryError::ThingExists(_))));
    assert_eq!(service.head().seq, 1);
}

#[test]
fn more_commands_than_the_queue_holds_are_refused_and_not_forgotten() {
    let home = Home::new();
    let service = home.open();
    let (hold, held) = mpsc::channel::<()>();
    let (started, start) = mpsc::channel::<()>();
    service.send(Job::Inspect(Box::new(move |_| {
        started.send(()).unwrap();
        held.recv().unwrap();
    })));
    start.recv().unwrap();
    let max = crate::store::QUEUE_COMMANDS_MAX;
    let pending: Vec<Pending> =
        (0..=max).map(|n| service.submit(add(&format!("t{n}")), operator())).collect();
    hold.send(()).unwrap();
    let mut refused = 0;
    for pending in pending {
        match pending.wait() {
            Ok(_) => {}
            Err(ExecuteError::Store(StoreError::Busy(_))) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(refused, 1);
    assert_eq!(service.registry().things_count(), max);
}

#[test]
fn a_full_disk_changes_nothing_and_what_follows_works_again() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("before"), operator()).unwrap();
    let before = (service.snapshot(), service.head());
    let hold = limit_pages(&service, Some(0));
    let lost = service.submit(large("lost"), operator());
    let beside = service.submit(add("before"), operator());
    hold.send(()).unwrap();
    for failed in [lost, beside] {
        // Also who would have been refused learns that the store failed: a refusal might rest on what was not stored.
        let failed = failed.wait().unwrap_err();
        assert!(matches!(failed, ExecuteError::Store(StoreError::NotStored(_))), "{failed}");
    }
    assert_eq!((service.snapshot(), service.head()), before);
    assert_eq!(service.stats().failed, 2);
    limit_pages(&service, None).send(()).unwrap();
    service.execute(large("lost"), operator()).unwrap();
    assert_eq!(service.head().seq, 2);
    service.verify_audit(None).unwrap();
    same(&service, &home.as_if_killed().open());
}

/// A command whose event needs pages of its own.
fn large(template: &str) -> Command {
    Command::SetTemplate(signet_registry::TemplateSpec {
        name: signet_identity::TemplateName::try_from(template).unwrap(),
        kind: signet_registry::TemplateKind::Fleet,
        enabled: true,
        keys: false,
        body: "x".repeat(10_000).into(),
    })
}

/// Lets the database grow by no more than so many pages, as a full disk does; `None` for as many as it likes. The writer
/// goes on when something is sent.
fn limit_pages(service: &RegistryService, more: Option<i64>) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel();
    service.send(Job::Inspect(Box::new(move |writer| {
        let connection = writer.database.connection();
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let most = more.map_or(1_000_000, |more| pages + more);
        connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(())).unwrap();
        wait.recv().unwrap();
    })));
    go
}

#[test]
fn subscribers_hear_of_every_command_once_it_is_durable_and_visible_and_before_it_is_answered() {
    let home = Home::new();
    let service = Arc::new(home.open());
    let authority = Authority::register(&service);
    let held = authority.issue(&service, "sensor-1");
    let (tell, told) = mpsc::channel();
    let weak = Arc::downgrade(&service);
    let directory = home.directory();
    service.subscribe(move |applied: &Applied, registry: &Registry| {
        let service = weak.upgrade().unwrap();
        let visible = held.standing(&service);
        let durable = verify_file(&directory.join("registry.db"), None).unwrap().seq;
        tell.send((applied.effects.lost.clone(), visible, durable, registry.events_applied())).unwrap();
    });
    let applied = held.revoke(&service);
    // It was answered, so the subscriber has been called already.
    let (lost, visible, durable, in_registry) = told.try_recv().unwrap();
    assert_eq!(lost, applied.effects.lost);
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].certificate, held.id);
    assert!(!lost[0].holder_remains);
    assert_eq!(visible, "revoked");
    assert_eq!(durable, service.head().seq);
    assert_eq!(in_registry, durable);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_subscriber_that_panics_ends_neither_the_registry_nor_the_other_subscribers() {
    let home = Home::new();
    let service = home.open();
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    service.subscribe(|_, _| panic!("on purpose"));
    service.subscribe(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    service.execute(add("a"), operator()).unwrap();
    service.execute(add("b"), operator()).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    assert_eq!(service.stats().deaf, 2);
    assert!(service.is_running());
}

#[test]
fn a_subscriber_is_not_called_for_a_refused_command() {
    let home = Home::new();
    let service = home.open();
    service.execute(add("a"), operator()).unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    service.subscribe(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    service.execute(add("a"), operator()).unwrap_err();
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    service.execute(add("b"), operator()).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn a_refusal_is_recorded_and_changes_nothing_else() {
    let home = Home::new();
    let service = home.open();
    service.record_refusal(Attempt::Issue, &"the key is weak", 3, Actor::Unknown(Line::new("192.0.2.1")));
    service.execute(add("a"), operator()).unwrap();
    assert_eq!(service.head().seq, 2);
    let query = AuditQuery { kind: Some("refused".to_owned()), at_most: 10, ..Default::default() };
    let rows = service.audit(&query).unwrap();
    assert_eq!(rows.len(), 1);
    let text = rows[0].event.as_ref().unwrap().to_string();
    assert!(text.contains("the key is weak") && text.contains("192.0.2.1"), "{text}");
}

#[test]
fn rows_are_found_by_name_certificate_and_kind() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let held = authority.issue(&service, "sensor-1");
    authority.issue(&service, "sensor-2");
    held.revoke(&service);
    let count = |query: AuditQuery| service.audit(&AuditQuery { at_most: 100, ..query }).unwrap().len();
    let by_name = count(AuditQuery { name: Some("sensor-1".to_owned()), ..Default::default() });
    let by_certificate = count(AuditQuery { certificate: Some(held.id), ..Default::default() });
    // The thing, the certificate, the revocation, which names no thing itself; and without the thing.
    assert_eq!((by_name, by_certificate), (3, 2));
    assert_eq!(count(AuditQuery { kind: Some("certificate_revoked".to_owned()), ..Default::default() }), 1);
    assert_eq!(count(AuditQuery { name: Some("sensor-3".to_owned()), ..Default::default() }), 0);
    let newest = AuditQuery { at_most: 1, ..Default::default() };
    assert_eq!(service.audit(&newest).unwrap()[0].row.seq, service.head().seq);
    let after = AuditQuery { after: Some(1), oldest_first: true, at_most: 1, ..Default::default() };
    assert_eq!(service.audit(&after).unwrap()[0].row.seq, 2);
}

#[test]
fn the_bytes_of_an_issued_certificate_can_be_had_again() {
    let home = Home::new();
    let service = home.open();
    let authority = Authority::register(&service);
    let certificate = authority.sign();
    let id = certificate.facts().id;
    let der = certificate.der().as_bytes().to_vec();
    assert_eq!(service.certificate_der(&id).unwrap(), None);
    let holder = PrincipalKey { role: Role::Device, name: name("sensor-1") };
    service.execute(Command::Issue { certificate, holder }, operator()).unwrap();
    assert_eq!(service.certificate_der(&id).unwrap(), Some(der));
}

#[test]
fn one_process_at_a_time_has_a_registry() {
    let home = Home::new();
    let service = home.open();
    assert!(matches!(home.refusal(), StoreError::InUse(_)));
    drop(service);
    home.open();
}

#[test]
fn an_empty_registry_has_the_empty_head() {
    let home = Home::new();
    let service = home.open();
    assert_eq!(service.head(), Head::EMPTY);
    assert_eq!(service.verify_audit(None).unwrap(), Head::EMPTY);
}

#[test]
fn what_deadlines_ask_for_is_done_by_the_writer_itself() {
    static CLOCK: AtomicU64 = AtomicU64::new(NOW.0);
    fn moving() -> Wall {
        Wall(CLOCK.load(Ordering::SeqCst))
    }
    let home = Home::new();
    let options = Options { limits: Limits::default(), clock: moving };
    let service = RegistryService::open_with(&home.directory(), options).unwrap();
    let (tell, told) = mpsc::channel();
    service.subscribe(move |applied, _| {
        for event in &applied.events {
            tell.send((event.actor.clone(), event.change.metric_label())).unwrap();
        }
    });
    let until = NOW.after(Duration::from_secs(60));
    let token = signet_registry::TokenSpec {
        hash: signet_registry::TokenHash::of(b"secret"),
        thing: ThingSpec::named(name("sensor-1")),
        until,
        note: Line::default(),
    };
    service.execute(Command::CreateToken(token), operator()).unwrap();
    assert_eq!(told.recv().unwrap().1, "token_added");
    CLOCK.store(until.after(Duration::from_secs(1)).0, Ordering::SeqCst);
    let (actor, what) = told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!((actor, what), (Actor::Broker, "token_deleted"));
    assert_eq!(service.registry().tokens().count(), 0);
}
