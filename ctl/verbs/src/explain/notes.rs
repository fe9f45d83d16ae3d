//! Where the words of an explanation are often misread: what the words do here, for learners.

/// Kind, field, note.
const NOTES: &[(&str, &str, &str)] = &[
    (
        "Service",
        "spec.clusterIP",
        "Left out is not the same as None. A Service whose manifest does not mention clusterIP gets \
         an address. A headless Service, whose name leads to the pods themselves, has to say \
         \"clusterIP: None\".",
    ),
    (
        "Service",
        "spec.externalName",
        "An ExternalName leads from inside to outside: it is an alias (CNAME) in the cluster's DNS \
         and nothing else. It opens no way into the cluster, has no address and no ports, and no \
         proxy sees its packets.",
    ),
    (
        "Service",
        "spec.type",
        "A LoadBalancer needs no device of its own: what gives its address is software that watches \
         the API. Without it the Service works as a NodePort whose EXTERNAL-IP stays <pending>.",
    ),
    (
        "Service",
        "spec.selector",
        "The labels of the pods count, not those of the Deployment or ReplicaSet that made them, \
         nor those of the Service.",
    ),
    (
        "Ingress",
        "spec.rules",
        "Rules alone do nothing: a controller of the Ingress' class carries them out. Here every \
         node runs the one of the class \"minictl\".",
    ),
];

/// The note about a field (`spec.clusterIP`) of a kind.
pub(super) fn about(kind: &str, field: &str) -> Option<&'static str> {
    NOTES.iter().find(|(k, f, _)| (*k, *f) == (kind, field)).map(|(_, _, note)| *note)
}
