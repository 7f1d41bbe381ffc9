//! A second place, under somebody else's control, that gets a copy of every signed head: a log that is set back as a whole contradicts it.

use std::collections::BTreeMap;

use ::audit::{Former, Hash, Head, PublicKey, newest_head, proven_head};
use change::Result;
use lake::{Lake, LakeOptions};

use crate::project::Project;

/// Where copies of heads are kept.
pub(crate) struct Anchor {
    store: Lake,
    /// SHA-256 of the place's name.
    pub(super) place: Hash,
}

const FOLDER: &str = "lockgate-audit";
/// Heads that are looked at to see whether a log has them, at either end.
const LOOKED_AT: usize = 16;

impl Anchor {
    /// The anchor that `audit.anchor` names, if any.
    ///
    /// # Errors
    /// Those of the place and of secret references among its options.
    pub(crate) async fn of(project: &Project) -> Result<Option<Self>> {
        let Some(place) = &project.file.audit.anchor else { return Ok(None) };
        let options = project.resolved("audit.anchor_options", &project.file.audit.anchor_options)?;
        Self::at(&project.place(place), options).await.map(Some)
    }

    /// The anchor at a folder or URL.
    ///
    /// # Errors
    /// Those of the place.
    pub(crate) async fn at(place: &str, options: Vec<(String, String)>) -> Result<Self> {
        let options = LakeOptions { store: options.into_iter().collect() };
        let (store, place) = (Lake::open(place, options).await?, Hash::of(&[place.as_bytes()]));
        Ok(Self { store, place })
    }

    /// Keeps a head. Its line's hash is in its name, so that nothing is ever written over but by itself: a log that was set back gives the
    /// same number to another head.
    pub(crate) async fn keep(&self, head: &Head, line: &str) -> Result<()> {
        let hash = Hash::of(&[line.as_bytes()]).short();
        let name = format!("{:010}-{:012}-{hash}.json", head.nth, head.entries);
        self.store.put_object(&[FOLDER, &head.log.short(), &name], line.as_bytes().to_vec()).await
    }

    /// Heads of a log that the key signed and that have this number or a higher one: the first ones and the last ones of them.
    pub(super) async fn from(&self, log: &Hash, number: u64, key: &PublicKey) -> Result<Vec<(Head, String)>> {
        let objects = self.store.objects_after(&[FOLDER, &log.short()], &format!("{number:010}")).await?;
        let (mut heads, mut looked_at) = (Vec::new(), 0);
        for object in &objects {
            looked_at += 1;
            heads.extend(self.head_at(object, log, key).await?);
            if heads.len() == LOOKED_AT {
                break;
            }
        }
        // What is no head of ours takes the place of none.
        for object in objects[looked_at..].iter().rev() {
            heads.extend(self.head_at(object, log, key).await?);
            if heads.len() == 2 * LOOKED_AT {
                break;
            }
        }
        Ok(heads)
    }

    async fn head_at(&self, object: &str, log: &Hash, key: &PublicKey) -> Result<Option<(Head, String)>> {
        let Some(bytes) = self.store.object_at(object).await? else { return Ok(None) };
        let line = String::from_utf8_lossy(&bytes).into_owned();
        Ok(proven_head(&line, key).filter(|head| head.log == *log).map(|head| (head, line)))
    }

    /// The newest head that the key signed, of whatever log.
    pub(crate) async fn newest(&self, key: &PublicKey) -> Result<Option<Former>> {
        let mut logs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for object in self.store.objects_below(&[FOLDER]).await? {
            let log = object.rsplit_once('/').map_or("", |(log, _)| log).to_owned();
            logs.entry(log).or_default().push(object);
        }
        let mut newest = Vec::new();
        // The names of a log's heads are in the order of the heads; what is no head of ours is passed over.
        for heads in logs.values() {
            for object in heads.iter().rev() {
                let Some(bytes) = self.store.object_at(object).await? else { continue };
                let line = String::from_utf8_lossy(&bytes).into_owned();
                if newest_head([line.as_str()], key).is_some() {
                    newest.push(line);
                    break;
                }
            }
        }
        Ok(newest_head(newest.iter().map(String::as_str), key))
    }

    /// Hands over the lines of all heads that were kept, of whatever logs.
    pub(crate) async fn each_head(&self, mut take: impl FnMut(&str)) -> Result<()> {
        for object in self.store.objects_below(&[FOLDER]).await? {
            if let Some(bytes) = self.store.object_at(&object).await? {
                take(&String::from_utf8_lossy(&bytes));
            }
        }
        Ok(())
    }
}
