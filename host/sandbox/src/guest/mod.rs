//! One instance of a component: the data of its store, its imports, and its reports.

mod imports;
pub mod linker;
pub mod report;
pub mod state;

use wasmtime::Store;
use wasmtime::component::Instance;

use state::GuestState;

/// Running instance of a component.
pub(crate) struct Guest {
    pub(crate) store: Store<GuestState>,
    pub(crate) instance: Instance,
}
