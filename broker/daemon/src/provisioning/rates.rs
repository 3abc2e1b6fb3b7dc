//! How fast requests may come: a bucket for each principal, one for each address, and one for each authority whose unknown
//! certificates are let in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use foldhash::quality::RandomState;
use parking_lot::Mutex;
use signet_config::Provisioning as Rules;
use signet_identity::{PrincipalKey, Role};
use signet_registry::CaId;

use super::asker::Asker;
use super::refused::Refused;
use crate::server::Broker;

/// Principals and addresses remembered at most, each. When they are full and none can be forgotten, who is not among them
/// shares one bucket.
const REMEMBERED_MAX: usize = 16_384;
/// What may come at once: so much time's worth.
const BURST: Duration = Duration::from_secs(2);

/// The buckets. Each is the moment until which it is used up.
#[derive(Debug, Default)]
pub(super) struct Rates {
    principals: Mutex<Buckets<PrincipalKey>>,
    addresses: Mutex<Buckets<IpAddr>>,
    authorities: Mutex<Buckets<CaId>>,
}

#[derive(Debug)]
struct Buckets<K> {
    used_until: HashMap<K, Duration, RandomState>,
    shared: Duration,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self { used_until: HashMap::default(), shared: Duration::ZERO }
    }
}

impl<K: Eq + std::hash::Hash> Buckets<K> {
    fn take(&mut self, key: K, per_second: u32, now: Duration) -> bool {
        if self.used_until.len() >= REMEMBERED_MAX && !self.used_until.contains_key(&key) {
            self.used_until.retain(|_, until| *until > now);
        }
        let full = self.used_until.len() >= REMEMBERED_MAX && !self.used_until.contains_key(&key);
        let bucket =
            if full { &mut self.shared } else { self.used_until.entry(key).or_insert(Duration::ZERO) };
        let cost = Duration::from_secs(1) / per_second.max(1);
        let from = (*bucket).max(now);
        // One request always has room in an unused bucket, however slow the rate is.
        if from + cost > now + BURST.max(cost) {
            return false;
        }
        *bucket = from + cost;
        true
    }
}

/// Requests per second.
#[derive(Debug, Clone, Copy)]
struct Limits {
    principal: Option<NonZeroU32>,
    address: Option<NonZeroU32>,
}

impl Rates {
    /// Whether a request of `asker` may be served now.
    pub(super) fn admit(&self, broker: &Broker, asker: &Asker) -> Result<(), Refused> {
        let config = broker.config.load();
        let rules = &config.provisioning;
        let key = asker.principal.key();
        let per_second =
            Limits { principal: of_principal(rules, key), address: rules.requests_per_address_per_second };
        let now = broker.clock.mono().elapsed();
        self.draw(key, asker.address, per_second, now).map_err(Refused::too_fast)
    }

    /// Whether `key` may have one more certificate signed that takes the place of its own.
    pub(super) fn admit_renewal(&self, rules: &Rules, key: &PrincipalKey, now: Duration) -> bool {
        let per_second = of_principal(rules, key);
        per_second.is_none_or(|most| self.principals.lock().take(key.clone(), most.get(), now))
    }

    /// Whether one more unknown certificate of the authority `ca` may be registered now.
    pub(super) fn admit_unknown(&self, rules: &Rules, ca: CaId, now: Duration) -> bool {
        let per_second = rules.just_in_time_per_authority_per_second;
        per_second.is_none_or(|most| self.authorities.lock().take(ca, most.get(), now))
    }

    /// Draws from both buckets; which bound is passed, if one is. The principal's comes first: what is refused for it is not
    /// drawn from the bucket of the address, which its neighbours share.
    fn draw(
        &self,
        principal: &PrincipalKey,
        address: IpAddr,
        per_second: Limits,
        now: Duration,
    ) -> Result<(), &'static str> {
        if let Some(per_second) = per_second.principal
            && !self.principals.lock().take(principal.clone(), per_second.get(), now)
        {
            return Err(match principal.role {
                Role::Device => "requests-per-device-per-second",
                Role::Claim | Role::Operator => "requests-per-principal-per-second",
            });
        }
        if let Some(per_second) = per_second.address
            && !self.addresses.lock().take(source_of(address), per_second.get(), now)
        {
            return Err("requests-per-address-per-second");
        }
        Ok(())
    }
}

/// A device asks for itself alone, a claim for all its devices.
const fn of_principal(rules: &Rules, key: &PrincipalKey) -> Option<NonZeroU32> {
    match key.role {
        Role::Device => rules.requests_per_device_per_second,
        Role::Claim | Role::Operator => rules.requests_per_principal_per_second,
    }
}

/// One subscriber line usually owns a whole IPv6 /64, so that is what counts as one source.
fn source_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        four => four,
    }
}

#[cfg(test)]
mod tests {
    use signet_identity::{Role, ThingName};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_passes_its_own_bound_leaves_its_neighbours_what_the_address_may_have() {
        let rates = Rates::default();
        let [loud, quiet] = ["loud", "quiet"]
            .map(|name| PrincipalKey { role: Role::Device, name: ThingName::try_from(name).unwrap() });
        let per_second = Limits { principal: NonZeroU32::new(5), address: NonZeroU32::new(10) };
        let address = IpAddr::from([192, 0, 2, 1]);
        let passed = |who| (0..100).filter(|_| rates.draw(who, address, per_second, SECOND).is_ok()).count();
        assert_eq!((passed(&loud), passed(&quiet)), (10, 10));
        assert_eq!(rates.draw(&loud, address, per_second, SECOND), Err("requests-per-device-per-second"));
    }

    #[test]
    fn a_device_signs_more_slowly_than_a_claim_and_no_authority_holds_up_another() {
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"a\"\nprivate-key = \"b\"\nclient-ca = [\"c\"]\n\
                    [acl]\nfile = \"d\"\n";
        let config = signet_config::parse(text, std::path::Path::new("signet.toml")).unwrap();
        let (rules, rates) = (&config.provisioning, Rates::default());
        let key = |role| PrincipalKey { role, name: ThingName::try_from("a").unwrap() };
        let signed = |role| (0..1000).filter(|_| rates.admit_renewal(rules, &key(role), SECOND)).count();
        assert_eq!((signed(Role::Device), signed(Role::Claim)), (4, 400));
        let [one, other] = [CaId::of(b"1"), CaId::of(b"2")];
        let let_in = |ca| (0..1000).filter(|_| rates.admit_unknown(rules, ca, SECOND)).count();
        assert_eq!((let_in(one), let_in(other)), (100, 100));
        assert!(!rates.admit_unknown(rules, one, SECOND));
        assert!(rates.admit_unknown(rules, one, SECOND * 2));
    }

    #[test]
    fn a_burst_of_two_seconds_passes_and_then_one_request_at_a_time() {
        let mut buckets = Buckets::default();
        let passed = |buckets: &mut Buckets<u8>, now| (0..100).filter(|_| buckets.take(1, 5, now)).count();
        assert_eq!(passed(&mut buckets, SECOND), 10);
        assert_eq!(passed(&mut buckets, SECOND + SECOND / 5), 1);
        assert_eq!(passed(&mut buckets, SECOND * 60), 10);
        assert!(buckets.take(2, 5, SECOND), "another's bucket is its own");
    }

    #[test]
    fn a_table_that_is_full_forgets_the_idle_and_lets_the_others_share() {
        let mut buckets = Buckets::default();
        for key in 0..REMEMBERED_MAX {
            assert!(buckets.take(key, 1, SECOND));
        }
        assert!(buckets.take(REMEMBERED_MAX, 1, SECOND) && buckets.take(REMEMBERED_MAX + 1, 1, SECOND));
        assert!(!buckets.take(REMEMBERED_MAX + 2, 1, SECOND), "they share one bucket");
        assert_eq!(buckets.used_until.len(), REMEMBERED_MAX);
        assert!(buckets.take(REMEMBERED_MAX + 2, 1, SECOND * 10));
        assert_eq!(buckets.used_until.len(), 1);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let [a, b, c] =
            ["2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        assert_eq!(source_of(a), source_of(b));
        assert_ne!(source_of(a), source_of(c));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(source_of(mapped), "192.0.2.1".parse::<IpAddr>().unwrap());
    }
}
