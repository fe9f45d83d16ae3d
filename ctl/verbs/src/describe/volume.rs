//! Volumes of a pod or of a template.

use k8s_openapi::api::core::v1::{ProjectedVolumeSource, Volume};

use super::text::Text;

/// The list of volumes. `space` is `"  "` inside a template.
pub(super) fn volumes(out: &mut Text, volumes: Option<&Vec<Volume>>, space: &str) {
    let Some(volumes) = volumes.filter(|v| !v.is_empty()) else {
        return out.line(0, format_args!("{space}Volumes:\t<none>"));
    };
    out.line(0, format_args!("{space}Volumes:"));
    let indent = if space.is_empty() { "" } else { " " };
    for volume in volumes {
        out.line(1, format_args!("{indent}{}:", volume.name));
        source(out, volume);
    }
}

fn source(out: &mut Text, volume: &Volume) {
    if let Some(path) = &volume.host_path {
        out.pair(2, "Type", "HostPath (bare host directory volume)");
        out.pair(2, "Path", &path.path);
        out.pair(2, "HostPathType", path.type_.as_deref().unwrap_or("<none>"));
    } else if let Some(dir) = &volume.empty_dir {
        out.pair(2, "Type", "EmptyDir (a temporary directory that shares a pod's lifetime)");
        out.pair(2, "Medium", dir.medium.as_deref().unwrap_or(""));
        let limit = dir.size_limit.as_ref().map(|q| q.0.as_str()).filter(|q| *q != "0");
        out.pair(2, "SizeLimit", limit.unwrap_or("<unset>"));
    } else if let Some(secret) = &volume.secret {
        out.pair(2, "Type", "Secret (a volume populated by a Secret)");
        out.pair(2, "SecretName", secret.secret_name.as_deref().unwrap_or(""));
        out.pair(2, "Optional", secret.optional.unwrap_or(false));
    } else if let Some(map) = &volume.config_map {
        out.pair(2, "Type", "ConfigMap (a volume populated by a ConfigMap)");
        out.pair(2, "Name", &map.name);
        out.pair(2, "Optional", map.optional.unwrap_or(false));
    } else if let Some(claim) = &volume.persistent_volume_claim {
        out.pair(
            2,
            "Type",
            "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
        );
        out.pair(2, "ClaimName", &claim.claim_name);
        out.pair(2, "ReadOnly", claim.read_only.unwrap_or(false));
    } else if let Some(downward) = &volume.downward_api {
        out.pair(2, "Type", "DownwardAPI (a volume populated by information about the pod)");
        out.line(2, "Items:");
        for item in downward.items.iter().flatten() {
            if let Some(field) = &item.field_ref {
                out.line(3, format_args!("{} -> {}", field.field_path, item.path));
            }
            if let Some(field) = &item.resource_field_ref {
                out.line(3, format_args!("{} -> {}", field.resource, item.path));
            }
        }
    } else if let Some(projection) = &volume.projected {
        projected(out, projection);
    } else {
        out.line(1, "<unknown>");
    }
}

fn projected(out: &mut Text, projection: &ProjectedVolumeSource) {
    out.pair(2, "Type", "Projected (a volume that contains injected data from multiple sources)");
    for source in projection.sources.iter().flatten() {
        if let Some(secret) = &source.secret {
            out.pair(2, "SecretName", &secret.name);
            out.pair(2, "Optional", secret.optional.unwrap_or(false));
        } else if source.downward_api.is_some() {
            out.pair(2, "DownwardAPI", "true");
        } else if let Some(map) = &source.config_map {
            out.pair(2, "ConfigMapName", &map.name);
            out.pair(2, "Optional", map.optional.unwrap_or(false));
        } else if let Some(token) = &source.service_account_token {
            out.pair(2, "TokenExpirationSeconds", token.expiration_seconds.unwrap_or(3600));
        }
    }
}
