//! Work that keeps a thread for minutes: a model that looks at texts.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Does work; when it is `long`, what else this thread would do goes to others meanwhile.
pub(crate) fn letting_others_on<T>(long: bool, work: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread if long => block_in_place(work),
        _ => work(),
    }
}
