//! Certificates for devices that ask for them: what the `$aws` provisioning topics do, and what happens to an unknown
//! certificate whose authority lets it in.
//!
//! A request comes from the core (`submit`), is counted against the bounds of its principal and address, and is served on
//! threads of its own: reading signing requests, signing, asking the hook and waiting for the disk never happen on threads that
//! carry traffic. What is answered as accepted is on the disk. Every answer leaves within `ANSWER_WITHIN`.

mod asker;
mod certificate;
mod hook;
pub(crate) mod jit;
mod metrics;
mod rates;
mod refusals;
mod refused;
mod shares;
mod templates;
mod thing;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signet_core::Mono;
use signet_core::provisioning::{Answer, ErrorCode, Payload, ReplyTo, Request};
use signet_identity::PrincipalKey;
use signet_registry::Attempt;

use crate::directory::Live;
use crate::server::Broker;
use asker::Asker;
pub(crate) use metrics::ProvisioningMetrics;
use rates::Rates;
use refusals::Refusals;
use refused::Refused;
use shares::{HookPlaces, UnderWay};
use templates::Templates;

/// Every answer leaves so long after its request came, at the latest, whatever the hook, the signer and the disk do. The embedded
/// clients give up after 1000 ms; the rest is for the way.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_millis(800);

/// What provisioning keeps between requests.
#[derive(Debug)]
pub(crate) struct Provisioning {
    /// Where requests are served; absent when the broker is no authority, or keeps no registry.
    threads: OnceLock<tokio::runtime::Handle>,
    in_flight: AtomicUsize,
    under_way: UnderWay,
    rates: Rates,
    refusals: Refusals,
    templates: Templates,
    hooks: HookPlaces,
    announced: jit::Announced,
}

impl Provisioning {
    /// Nothing yet. `hooks_max` hooks run at once.
    pub(crate) fn new(hooks_max: usize) -> Self {
        Self {
            threads: OnceLock::new(),
            in_flight: AtomicUsize::new(0),
            under_way: UnderWay::default(),
            rates: Rates::default(),
            refusals: Refusals::default(),
            templates: Templates::default(),
            hooks: HookPlaces::new(hooks_max),
            announced: jit::Announced::default(),
        }
    }

    /// Whether `key` may have one more certificate signed in the place of its own, by another way than the topics.
    pub(crate) fn admit_renewal(&self, broker: &Broker, key: &PrincipalKey) -> bool {
        let config = broker.config.load();
        self.rates.admit_renewal(&config.provisioning, key, broker.clock.mono().elapsed())
    }

    /// Requests that wait or are under way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// Begins to serve requests on `threads`, and follows the registry's templates.
pub(crate) fn start(broker: &Arc<Broker>, threads: Option<tokio::runtime::Handle>) {
    let Some(registry) = broker.registry() else { return };
    broker.hub().set_rotation_templates(templates::for_rotation(&registry.registry()));
    let (hub, weak) = (Arc::clone(broker.hub()), Arc::downgrade(broker));
    registry.subscribe(move |applied, registry| {
        if templates::concerned(&applied.events) {
            hub.set_rotation_templates(templates::for_rotation(registry));
        }
        if let Some(broker) = weak.upgrade().filter(|_| !applied.effects.waiting.is_empty()) {
            for (ca, certificate) in &applied.effects.waiting {
                jit::announce(&broker, registry, *ca, certificate);
            }
        }
    });
    if let Some(threads) = threads {
        // The first and only time.
        drop(broker.provisioning.threads.set(threads));
    }
}

/// A place among the requests under way, and among those of its principal.
struct Place(Arc<Broker>, PrincipalKey);

impl Place {
    fn take(broker: &Arc<Broker>, asker: &Asker) -> Option<Self> {
        let max = broker.config.load().provisioning.requests_in_flight_max.get() as usize;
        let (counter, key) = (&broker.provisioning.in_flight, asker.principal.key());
        if !broker.provisioning.under_way.begin(key, max) {
            return None;
        }
        let taken =
            counter.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| (now < max).then_some(now + 1));
        if taken.is_err() {
            broker.provisioning.under_way.end(key);
            return None;
        }
        Some(Self(Arc::clone(broker), key.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.provisioning.in_flight.fetch_sub(1, Ordering::AcqRel);
        self.0.provisioning.under_way.end(&self.1);
    }
}

/// Takes a request of a connection. It does not wait; the answer comes to the connection by itself.
pub(crate) fn submit(broker: &Arc<Broker>, live: &Live, request: Request) {
    let began = broker.clock.mono();
    let Request { payload, client_id, reply_to } = request;
    let asker = Asker {
        principal: live.principal.clone(),
        address: live.address.ip(),
        client_id,
        names: live.settings.names.clone(),
    };
    let admitted = broker.provisioning.rates.admit(broker, &asker).and_then(|()| {
        let threads = broker.provisioning.threads.get().ok_or_else(Refused::not_served)?;
        let place = Place::take(broker, &asker).ok_or_else(Refused::too_many_under_way)?;
        Ok((threads, place))
    });
    let (threads, place) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            let refused = refuse(broker, &asker, &reply_to, &refused);
            return finish(broker, reply_to, &refused, began);
        }
    };
    let broker = Arc::clone(broker);
    let answer_by = began.after(ANSWER_WITHIN);
    let (serving, topic, who) = (Arc::clone(&broker), reply_to.topic().clone(), asker.clone());
    let mut served =
        threads.spawn(async move { serve(&serving, &who, &topic.operation, payload, answer_by).await });
    // Who waits for the answer is not on the threads that may be slow.
    tokio::spawn(async move {
        let _place = place;
        let answered = match tokio::time::timeout_at(broker.clock.instant(answer_by), &mut served).await {
            Ok(answered) => answered,
            Err(_) => {
                let refused = refuse(&broker, &asker, &reply_to, &Refused::late());
                finish(&broker, reply_to, &refused, began);
                // What waits is given up. What cannot be, such as a signature, keeps its place until it ends.
                served.abort();
                return drop(served.await.inspect_err(|error| tell_panic(&broker, error)));
            }
        };
        let answer = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(refused)) => refuse(&broker, &asker, &reply_to, &refused),
            Err(error) => {
                tell_panic(&broker, &error);
                Answer::Rejected(ErrorCode::InternalFailure.because("The broker failed."))
            }
        };
        finish(&broker, reply_to, &answer, began);
    });
}

fn tell_panic(broker: &Broker, error: &tokio::task::JoinError) {
    if error.is_panic() {
        broker.metrics.panics.inc();
        tracing::error!(%error, "a panic while a request for a certificate was served; this is a defect, please report it");
    }
}

async fn serve(
    broker: &Arc<Broker>,
    asker: &Asker,
    operation: &signet_core::provisioning::Operation,
    payload: Result<Payload, signet_core::provisioning::Rejection>,
    answer_by: Mono,
) -> Result<Answer, Refused> {
    use signet_core::provisioning::Operation;
    let payload = payload.map_err(Refused::payload)?;
    let at = asker::At::of(broker, asker, answer_by)?;
    match (operation, payload) {
        (_, Payload::Csr(csr)) => certificate::from_csr(&at, &csr).await,
        (_, Payload::Keys) => certificate::with_keys(&at).await,
        (Operation::RegisterThing(template), Payload::Thing { token, parameters }) => {
            thing::register(&at, template, &token, parameters).await
        }
        (Operation::CreateFromCsr | Operation::CreateKeys, Payload::Thing { .. }) => {
            Err(Refused::payload(ErrorCode::InvalidPayload.because("The payload is of another operation.")))
        }
    }
}

/// Counts, logs and records a refusal; what the device is told of it.
fn refuse(broker: &Arc<Broker>, asker: &Asker, reply_to: &ReplyTo, refused: &Refused) -> Answer {
    let operation = &reply_to.topic().operation;
    let attempt = match operation {
        signet_core::provisioning::Operation::RegisterThing(_) => Attempt::RegisterThing,
        _ => Attempt::Issue,
    };
    refusals::note(broker, asker, operation.metric_label(), attempt, refused);
    Answer::Rejected(refused.rejection)
}

fn finish(broker: &Broker, reply_to: ReplyTo, answer: &Answer, began: Mono) {
    let operation = reply_to.topic().operation.metric_label();
    let result = match answer {
        Answer::Rejected(rejection) => rejection.code.metric_label(),
        Answer::Certificate(_) | Answer::Thing { .. } => "accepted",
    };
    let metrics = &broker.metrics.provisioning;
    metrics.requests.with_label_values(&[operation, result]).inc();
    metrics.seconds.with_label_values(&[operation]).observe(broker.clock.mono().since(began).as_secs_f64());
    // False when the connection is gone: then nobody is there who could be answered.
    let _ = broker.hub().answer(reply_to, answer);
}
