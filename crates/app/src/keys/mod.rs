//! Where the keys are: `keys:` of policy.yaml is a reference to a place, never a key.
//!
//! | Reference | Place |
//! |---|---|
//! | `file:PATH` | a key file of mode 0600 |
//! | `env:NAME` | the text of a key file in an environment variable |
//! | `vault:kv/MOUNT/PATH#FIELD` | the same in a field of a KV version 2 secret of HashiCorp Vault or OpenBao |
//! | `vault:transit/MOUNT/KEY#PATH` | a file that the transit engine has encrypted, decrypted there at start |
//! | `aws-kms:KEY#PATH` | a file that `lockgate keys wrap` made, whose key AWS KMS unwraps at start |
//! | `gcp-kms:KEY#PATH` | the same with Google Cloud KMS |
//! | `azure-kv:KEY#PATH` | the same with Azure Key Vault or Managed HSM |
//!
//! Every place gives the text of a key file, which is read once at start and zeroed; there is no default key. A place that does not
//! answer is `Unavailable` after a bounded number of tries.

use std::path::{Path, PathBuf};

use change::{Error, Kind, Result};
use gate::KeyRing;
use zeroize::Zeroizing;

mod cloud;
mod file;
mod http;
mod vault;
mod wrapped;

use self::cloud::CloudKey;
pub(crate) use self::file::make;
use self::vault::{Engine, VaultServer};
use self::wrapped::Unnamed;

/// A place of keys.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(PathBuf),
    Env(String),
    Vault(Engine),
    Cloud(CloudKey),
}

/// Reads the keys that the policy refers to; `None` when it needs none.
///
/// # Errors
/// `Config` for a reference that is not known; `Privacy` when there is no usable key file at the place; `Auth` and `Unavailable` when a
/// server refuses or does not answer.
pub(crate) fn load(reference: Option<&str>, project: &Path) -> Result<Option<KeyRing>> {
    let Some(reference) = reference else { return Ok(None) };
    read(reference, project).map(|(_, ring)| Some(ring))
}

/// The text of the keys, to make another one of.
///
/// # Errors
/// Those of [`load`].
pub(crate) fn text(reference: &str, project: &Path) -> Result<Zeroizing<String>> {
    read(reference, project).map(|(text, _)| text)
}

/// Puts another text of keys in place of the one that is read: whole or not at all. `false` when the place is not a file of this machine,
/// and nothing was written.
///
/// # Errors
/// `Full` when the file cannot be written.
pub(crate) fn put(reference: &str, project: &Path, text: &str) -> Result<bool> {
    let Place::File(path) = Place::parse(reference)? else { return Ok(false) };
    file::replace(&project.join(path), text).map(|()| true)
}

/// Whether [`put`] writes there.
pub(crate) fn is_file(reference: &str) -> bool {
    matches!(Place::parse(reference), Ok(Place::File(_)))
}

/// Writes a text of keys into a new file, mode 0600.
///
/// # Errors
/// `Config` when there is one already, or it cannot be made.
pub(crate) fn write_out(path: &Path, text: &str) -> Result<()> {
    file::write_out(path, text)
}

/// The text of the key file at a place, and the keys in it.
fn read(reference: &str, project: &Path) -> Result<(Zeroizing<String>, KeyRing)> {
    let (text, shown) = match Place::parse(reference)? {
        Place::File(path) => {
            let path = project.join(path);
            (file::read(&path)?, path.display().to_string())
        }
        Place::Env(name) => (from_environment(&name)?, format!("the environment variable {name}")),
        Place::Vault(engine) => {
            (VaultServer::from_environment(project)?.fetch(&engine, project)?, reference.to_owned())
        }
        Place::Cloud(key) => (key.fetch(project)?, reference.to_owned()),
    };
    let ring = KeyRing::parse(&text).map_err(|error| error.context(shown))?;
    Ok((text, ring))
}

/// Wraps the key file at `from` for the manager's key that `into` names, into a file that was tried out and has not its name yet.
///
/// # Errors
/// As [`load`]; `Config` when `into` is no manager's.
pub(crate) fn wrap(from: &str, into: &str, project: &Path) -> Result<Unnamed> {
    let Place::Cloud(key) = Place::parse(into)? else {
        return Err(Error::new(Kind::Config, "only aws-kms, azure-kv and gcp-kms wrap a key file")
            .fix("Write aws-kms:KEY#FILE, azure-kv:KEY#FILE or gcp-kms:KEY#FILE; the transit engine's line is in docs/guide/held.md."));
    };
    let (text, ring) = read(from, project)?;
    key.wrap(project, &text, ring.tenant())
}

/// What is wrong with a reference, without going to the place when that is a server.
///
/// # Errors
/// Those of [`load`].
pub(crate) fn check(reference: Option<&str>, project: &Path) -> Result<()> {
    match reference.map(Place::parse).transpose()? {
        Some(Place::Vault(engine)) => {
            VaultServer::from_environment(project)?;
            engine.check(project)
        }
        Some(Place::Cloud(key)) => key.check(project),
        _ => load(reference, project).map(|_| ()),
    }
}

fn from_environment(name: &str) -> Result<Zeroizing<String>> {
    std::env::var(name).map(Zeroizing::new).map_err(|_| {
        Error::new(Kind::Privacy, format!("the environment variable {name}, which holds the keys, is not set"))
            .fix("Set it to the text of the key file that the lake was written with; a new one makes other tokens.")
    })
}

impl Place {
    fn parse(reference: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::Config, "this is not a reference to keys").fix(
                "Write file:./keys/dev.key, env:NAME, vault:kv/MOUNT/PATH#FIELD, vault:transit/MOUNT/KEY#FILE, aws-kms:ARN#FILE, \
                 gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K#FILE or azure-kv:https://V.vault.azure.net/keys/NAME/VERSION#FILE.",
            )
        };
        match reference.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("vault", engine)) => Engine::parse(engine).map(Self::Vault).ok_or_else(wrong),
            Some((manager, key)) => CloudKey::parse(manager, key).map(Self::Cloud).ok_or_else(wrong),
            None => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_without_keys_needs_no_place_and_a_wrong_reference_is_not_repeated() {
        assert!(load(None, Path::new(".")).unwrap().is_none());
        for reference in [
            "aws-kms:alias/lockgate",
            "aws-kms:#keys/a",
            "aws-kms:hunter 2#keys/a",
            "gcp-kms:projects/p/hunter2#keys/a",
            "azure-kv:https://hunter2.example/keys/a/1#keys/a",
            "hunter2",
            "file:",
            "env:",
            "vault:",
            "vault:kv/hunter2",
            "vault:transit/a/b",
            "vault:pki/a/b#c",
        ] {
            for outcome in [load(Some(reference), Path::new(".")).map(|_| ()), check(Some(reference), Path::new("."))] {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind(), Kind::Config, "{reference}");
                assert!(!error.to_string().contains("hunter2") && error.how_to_fix().is_some());
            }
        }
    }

    #[test]
    fn references_name_their_place() {
        let parsed = |reference| Place::parse(reference).unwrap();
        assert_eq!(parsed("file:./a"), Place::File("./a".into()));
        assert_eq!(parsed("env:KEYS"), Place::Env("KEYS".into()));
        let kv = Engine::Secret { mount: "secret".into(), path: "lockgate/prod".into(), field: "keys".into() };
        assert_eq!(parsed("vault:kv/secret/lockgate/prod#keys"), Place::Vault(kv));
        let transit = Engine::Transit { mount: "transit".into(), key: "lockgate".into(), file: "keys/a".into() };
        assert_eq!(parsed("vault:transit/transit/lockgate#keys/a"), Place::Vault(transit));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let Err(error) = load(Some("env:LOCKGATE_NO_SUCH_VARIABLE"), Path::new(".")) else {
            panic!("keys from nowhere")
        };
        assert_eq!(error.kind(), Kind::Privacy);
        assert!(error.what().contains("LOCKGATE_NO_SUCH_VARIABLE"));
    }
}
