//! The files of volumes that are made from objects: pure.
//!
//! Upstream: `pkg/volume/{configmap,secret,downwardapi,projected}`.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{
        ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, Volume, VolumeProjection,
    },
};

use super::VolumeError;
use crate::{
    downward::{self, NodeFacts},
    env::References,
};

/// The mode of files that do not say.
const DEFAULT_MODE: i32 = 0o644;

/// A file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumeFile {
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
}

/// Files by their path in the volume.
pub(crate) type Files = BTreeMap<String, VolumeFile>;

/// What volumes are made from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PayloadInput<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) references: &'a References,
    pub(crate) node: &'a NodeFacts,
}

/// The files of a volume; `None` if it is not made from objects.
///
/// # Errors
/// An object or key that is missing and not optional.
pub(crate) fn payload(
    volume: &Volume,
    input: &PayloadInput<'_>,
) -> Result<Option<Files>, VolumeError> {
    let builder = Builder { volume: &volume.name, input };
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        let optional = source.optional == Some(true);
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        builder.config_map(&mut files, &source.name, optional, source.items.as_deref(), mode)?;
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let optional = source.optional == Some(true);
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        builder.secret(&mut files, name, optional, source.items.as_deref(), mode)?;
    } else if let Some(source) = &volume.downward_api {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        builder.downward(&mut files, source.items.as_deref(), mode)?;
    } else if let Some(source) = &volume.projected {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in source.sources.iter().flatten() {
            builder.projection(&mut files, projection, mode)?;
        }
    } else {
        return Ok(None);
    }
    Ok(Some(files))
}

struct Builder<'a> {
    volume: &'a str,
    input: &'a PayloadInput<'a>,
}

impl Builder<'_> {
    fn fail(&self, reason: String) -> VolumeError {
        VolumeError::SetUp { volume: self.volume.to_owned(), reason }
    }

    fn config_map(
        &self,
        files: &mut Files,
        name: &str,
        optional: bool,
        items: Option<&[KeyToPath]>,
        mode: i32,
    ) -> Result<(), VolumeError> {
        let found = self.input.references.config_maps.get(name);
        if found.is_none() && !optional {
            return Err(self.fail(format!("configmap {name:?} not found")));
        }
        let data = found.map(config_map_data).unwrap_or_default();
        self.select(files, &data, items, optional, mode)
    }

    fn secret(
        &self,
        files: &mut Files,
        name: &str,
        optional: bool,
        items: Option<&[KeyToPath]>,
        mode: i32,
    ) -> Result<(), VolumeError> {
        let found = self.input.references.secrets.get(name);
        if found.is_none() && !optional {
            return Err(self.fail(format!("secret {name:?} not found")));
        }
        let data = found.map(secret_data).unwrap_or_default();
        self.select(files, &data, items, optional, mode)
    }

    /// All keys, or those that `items` names under the paths that it gives.
    fn select(
        &self,
        files: &mut Files,
        data: &BTreeMap<String, Vec<u8>>,
        items: Option<&[KeyToPath]>,
        optional: bool,
        mode: i32,
    ) -> Result<(), VolumeError> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            for (key, content) in data {
                files.insert(key.clone(), file(content.clone(), mode));
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(content) => {
                    let file = file(content.clone(), item.mode.unwrap_or(mode));
                    self.insert(files, &item.path, file)?;
                }
                None if optional => {}
                None => {
                    let key = &item.key;
                    return Err(self.fail(format!("references non-existent config key: {key}")));
                }
            }
        }
        Ok(())
    }

    fn downward(
        &self,
        files: &mut Files,
        items: Option<&[DownwardAPIVolumeFile]>,
        mode: i32,
    ) -> Result<(), VolumeError> {
        let PayloadInput { pod, node, .. } = *self.input;
        for item in items.unwrap_or_default() {
            let value = match (&item.field_ref, &item.resource_field_ref) {
                (Some(field), _) => downward::field(pod, &field.field_path, node),
                (None, Some(resource)) => downward::resource(pod, None, resource, node),
                (None, None) => continue,
            };
            let value = value.map_err(|error| self.fail(error.to_string()))?;
            let file = file(value.into_bytes(), item.mode.unwrap_or(mode));
            self.insert(files, &item.path, file)?;
        }
        Ok(())
    }

    fn projection(
        &self,
        files: &mut Files,
        projection: &VolumeProjection,
        mode: i32,
    ) -> Result<(), VolumeError> {
        if let Some(source) = &projection.config_map {
            let optional = source.optional == Some(true);
            self.config_map(files, &source.name, optional, source.items.as_deref(), mode)?;
        }
        if let Some(source) = &projection.secret {
            let optional = source.optional == Some(true);
            self.secret(files, &source.name, optional, source.items.as_deref(), mode)?;
        }
        if let Some(source) = &projection.downward_api {
            self.downward(files, source.items.as_deref(), mode)?;
        }
        Ok(())
    }

    /// A path must stay inside the volume; the API server checks the same.
    fn insert(&self, files: &mut Files, path: &str, file: VolumeFile) -> Result<(), VolumeError> {
        let is_plain = !path.is_empty()
            && !path.starts_with('/')
            && path.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
        if !is_plain || path.starts_with("..") {
            return Err(self.fail(format!("invalid path {path:?}")));
        }
        files.insert(path.to_owned(), file);
        Ok(())
    }
}

fn file(content: Vec<u8>, mode: i32) -> VolumeFile {
    VolumeFile { content, mode: mode.unsigned_abs() & 0o777 }
}

fn config_map_data(map: &ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.iter().flatten().map(|(key, v)| (key.clone(), v.clone().into_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, v)| (key.clone(), v.0.clone()));
    text.chain(binary).collect()
}

fn secret_data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    let bytes = |(key, ByteString(value)): (&String, &ByteString)| (key.clone(), value.clone());
    secret.data.iter().flatten().map(bytes).collect()
}
