//! What a Pod will ask next: the other names of its search path.
//!
//! With `ndots:5`, a Pod tries `example.com` as `example.com.<ns>.svc.cluster.local` first, then in
//! the cluster's other domains, and only then as it is: four questions, and as many for IPv6. Who
//! asks for the first name, and is a Pod with that search path, is told at once what its last
//! question would bring (upstream: CoreDNS' plugin/autopath).

use hickory_proto::rr::{Name, RecordType};

use super::Asked;
use crate::pods::Surroundings;
use crate::zone::Zone;

/// The names to try in place of one that is not there; none unless a Pod asks for it by its path.
pub(crate) fn completions(zone: &Zone, of: &Surroundings, asked: Asked<'_>) -> Vec<Name> {
    if !matches!(asked.kind, RecordType::A | RecordType::AAAA) {
        return Vec::new();
    }
    let Some(pod) = zone.pods().at(asked.client) else { return Vec::new() };
    let file = of.resolv_conf(&pod.namespace, pod.config.as_deref());
    // Who tries a name as it is first asks no more after a completed one than before.
    match file.asks_here && file.ndots > 1 {
        true => others(asked.name, &file.searches),
        false => Vec::new(),
    }
}

/// The other names that a search path makes of what it made this name of.
fn others(name: &Name, searches: &[String]) -> Vec<Name> {
    let parse = |domain: &String| {
        let mut name = Name::from_ascii(domain).ok()?;
        name.set_fqdn(true);
        Some(name)
    };
    let Some((first, rest)) = searches.split_first() else { return Vec::new() };
    let Some(first) = parse(first).filter(|first| first.zone_of(name)) else { return Vec::new() };
    let labels = usize::from(name.num_labels() - first.num_labels());
    let Ok(mut typed) = Name::from_labels(name.iter().take(labels)) else { return Vec::new() };
    typed.set_fqdn(false);
    if labels == 0 {
        return Vec::new();
    }
    let rest = rest.iter().filter_map(parse);
    let mut names: Vec<Name> =
        rest.filter_map(|domain| typed.clone().append_domain(&domain).ok()).collect();
    // A lone label is nobody's name outside: it would only tell others what is looked for here.
    if labels > 1 {
        typed.set_fqdn(true);
        names.push(typed);
    }
    names.retain(|other| other != name);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, searches: &[&str]) -> Vec<String> {
        let searches: Vec<String> = searches.iter().map(ToString::to_string).collect();
        others(&name.parse().unwrap(), &searches).iter().map(ToString::to_string).collect()
    }

    const PATH: [&str; 3] = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"];

    #[test]
    fn the_first_name_of_a_path_leads_to_the_others() {
        assert_eq!(
            of("www.example.com.shop.svc.cluster.local.", &PATH),
            [
                "www.example.com.svc.cluster.local.",
                "www.example.com.cluster.local.",
                "www.example.com."
            ]
        );
        assert_eq!(
            of("web.other.shop.svc.cluster.local.", &PATH)[0],
            "web.other.svc.cluster.local."
        );
        let longer = [&PATH[..], &["corp.example"]].concat();
        assert_eq!(
            of("db.shop.svc.cluster.local.", &longer),
            ["db.svc.cluster.local.", "db.cluster.local.", "db.corp.example."]
        );
    }

    #[test]
    fn other_names_lead_nowhere() {
        for name in ["www.example.com.", "a.b.svc.cluster.local.", "shop.svc.cluster.local.", "."] {
            assert_eq!(of(name, &PATH), Vec::<String>::new(), "{name}");
        }
        assert_eq!(of("www.example.com.", &[]), Vec::<String>::new());
        assert_eq!(
            of("www.example.com.shop.svc.cluster.local.", &["..", "x"]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_lone_label_is_not_told_to_others() {
        assert_eq!(
            of("db.shop.svc.cluster.local.", &PATH),
            ["db.svc.cluster.local.", "db.cluster.local."]
        );
    }
}
