//! Which address families a cluster has, and its ranges in each: what was asked for, and defaults
//! for the rest. Pure.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer, Serialize};

use super::Ranges;

/// Address families of a cluster, in kind's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone.
    Ipv6,
    /// Both; IPv4 is the cluster's own, as long as no range says otherwise.
    Dual,
}

/// Ranges that contradict the families asked for.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FamilyError {
    /// A range of a family that the cluster does not have.
    #[error("{flag} {range} is of a family that --ip-family leaves out: use --ip-family dual")]
    Unwanted {
        /// The flag that gave the range.
        flag: &'static str,
        /// The range.
        range: IpNet,
    },
    /// Two ranges of one family.
    #[error("{flag} has two ranges of one family, {first} and {second}: give one of each")]
    Twice {
        /// The flag that gave them.
        flag: &'static str,
        /// One.
        first: IpNet,
        /// The other.
        second: IpNet,
    },
}

/// The ranges that were asked for; each list may be empty or lack a family.
#[derive(Clone, Debug, Default)]
pub struct Wished {
    /// Pods.
    pub cluster: Vec<IpNet>,
    /// ClusterIPs; with two of them, the order of their families is the cluster's.
    pub service: Vec<IpNet>,
    /// Nodes of a lab.
    pub network: Vec<IpNet>,
}

impl Wished {
    /// Pod and Service ranges of a cluster of these families.
    ///
    /// # Errors
    /// [`FamilyError`]
    pub fn ranges(&self, families: IpFamily) -> Result<Ranges, FamilyError> {
        let order = self.order(families)?;
        let default = [Range::v4([10, 244, 0, 0], 16), Range::v6(&[0xfd00, 0x10, 0x244], 56)];
        let cluster = complete("--cluster-cidr", &self.cluster, &order, default)?;
        let default = [Range::v4([10, 96, 0, 0], 12), Range::v6(&[0xfd00, 0x10, 0x96], 112)];
        let service = complete("--service-cidr", &self.service, &order, default)?;
        Ok(Ranges { cluster, service })
    }

    /// The node network of a lab of these families. Two labs with different IPv4 networks have
    /// different IPv6 ones, too: the numbers are the same.
    ///
    /// # Errors
    /// [`FamilyError`]
    pub fn network(&self, families: IpFamily) -> Result<Vec<IpNet>, FamilyError> {
        let order = self.order(families)?;
        let v4 = Range::v4([192, 168, 56, 0], 24);
        let given = self.network.iter().copied().find(|net| net.addr().is_ipv4());
        let [a, b, c, _] = match given.unwrap_or(v4).network() {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(_) => [192, 168, 56, 0],
        };
        let group = |number: u8| u16::try_from(digits(number.into())).unwrap_or_default();
        let v6 = Range::v6(&[0xfd00, group(a), group(b), group(c)], 64);
        complete("--network", &self.network, &order, [v4, v6])
    }

    /// The families in their order: `false` stands for IPv4, `true` for IPv6.
    fn order(&self, families: IpFamily) -> Result<Vec<bool>, FamilyError> {
        Ok(match families {
            IpFamily::Ipv4 => vec![false],
            IpFamily::Ipv6 => vec![true],
            IpFamily::Dual => {
                let first = self.service.first().filter(|_| self.service.len() > 1);
                let six = first.is_some_and(|net| net.addr().is_ipv6());
                vec![six, !six]
            }
        })
    }
}

/// Ranges by their parts.
struct Range;

impl Range {
    fn v4(octets: [u8; 4], prefix: u8) -> IpNet {
        IpNet::V4(Ipv4Net::new_assert(octets.into(), prefix))
    }

    fn v6(groups: &[u16], prefix: u8) -> IpNet {
        let mut all = [0; 8];
        all.iter_mut().zip(groups).for_each(|(group, given)| *group = *given);
        IpNet::V6(Ipv6Net::new_assert(all.into(), prefix))
    }
}

/// What was given, in the order of families, with defaults for families that were not.
fn complete(
    flag: &'static str,
    given: &[IpNet],
    order: &[bool],
    default: [IpNet; 2],
) -> Result<Vec<IpNet>, FamilyError> {
    let is_six = |net: &IpNet| net.addr().is_ipv6();
    if let Some(range) = given.iter().find(|net| !order.contains(&is_six(net))) {
        return Err(FamilyError::Unwanted { flag, range: *range });
    }
    order
        .iter()
        .map(|six| {
            let mut of_family = given.iter().copied().filter(|net| is_six(net) == *six);
            match (of_family.next(), of_family.next()) {
                (Some(first), Some(second)) => Err(FamilyError::Twice { flag, first, second }),
                (Some(only), None) => Ok(only),
                (None, _) => Ok(default[usize::from(*six)]),
            }
        })
        .collect()
}

/// Reads a list; clusters of before there were two families have a single item in its place.
pub(crate) fn one_or_many<'de, T, D>(input: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match Either::deserialize(input)? {
        Either::One(one) => vec![one],
        Either::Many(all) => all,
    })
}

/// The number whose hexadecimal digits are this one's decimal digits.
pub(super) fn digits(number: u32) -> u128 {
    match number {
        0 => 0,
        _ => digits(number / 10) * 16 + u128::from(number % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split(',').filter(|part| !part.is_empty()).map(|part| part.parse().unwrap()).collect()
    }

    fn wished(cluster: &str, service: &str, network: &str) -> Wished {
        Wished { cluster: nets(cluster), service: nets(service), network: nets(network) }
    }

    #[test]
    fn a_lab_has_both_families_by_default_and_ipv4_comes_first() {
        let ranges = Wished::default().ranges(IpFamily::Dual).unwrap();
        assert_eq!(ranges.cluster, nets("10.244.0.0/16,fd00:10:244::/56"));
        assert_eq!(ranges.service, nets("10.96.0.0/12,fd00:10:96::/112"));
        let network = Wished::default().network(IpFamily::Dual).unwrap();
        assert_eq!(network, nets("192.168.56.0/24,fd00:192:168:56::/64"));
    }

    #[test]
    fn the_ipv6_network_follows_the_ipv4_one() {
        let network = wished("", "", "192.168.7.0/24").network(IpFamily::Dual).unwrap();
        assert_eq!(network, nets("192.168.7.0/24,fd00:192:168:7::/64"));
        let six = wished("", "", "").network(IpFamily::Ipv6).unwrap();
        assert_eq!(six, nets("fd00:192:168:56::/64"));
    }

    #[test]
    fn what_is_given_stands_and_the_other_family_is_added() {
        let ranges = wished("fd01::/56", "10.0.0.0/16", "").ranges(IpFamily::Dual).unwrap();
        assert_eq!(ranges.cluster, nets("10.244.0.0/16,fd01::/56"));
        assert_eq!(ranges.service, nets("10.0.0.0/16,fd00:10:96::/112"));
        let ranges = wished("", "fd01::/112,10.0.0.0/16", "").ranges(IpFamily::Dual).unwrap();
        assert_eq!(ranges.cluster, nets("fd00:10:244::/56,10.244.0.0/16"));
    }

    #[test]
    fn ranges_that_contradict_the_families_are_refused_with_the_fix() {
        let error = wished("fd01::/56", "", "").ranges(IpFamily::Ipv4).unwrap_err();
        assert_eq!(
            error.to_string(),
            "--cluster-cidr fd01::/56 is of a family that --ip-family leaves out: use --ip-family dual"
        );
        let error = wished("", "10.0.0.0/16,10.1.0.0/16", "").ranges(IpFamily::Dual).unwrap_err();
        assert!(error.to_string().starts_with("--service-cidr has two ranges of one family"));
    }

    #[test]
    fn digits_are_kept_not_values() {
        assert_eq!([digits(0), digits(70), digits(254)], [0, 0x70, 0x254]);
    }
}
