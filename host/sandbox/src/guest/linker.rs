//! Imports of guests: the interfaces of `rostro:pipeline`, `wasi:nn` and inert WASI.

use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sync as wasi_sync;
use wasmtime_wasi_nn::wit::WasiNnView;

use rostro_inference::{Tensor, TensorType};

use super::state::GuestState;
use crate::bindings::{v0_1, v0_2};

/// Trap of a guest that calls a function which waits.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it waits or sleeps, which a pipeline cannot")]
pub(crate) struct WaitRefused;

/// Links all imports of a guest.
///
/// # Errors
///
/// If a name is linked twice, which is a bug.
pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    link_pipeline_v01(linker)?;
    link_pipeline_v02(linker)?;
    wasmtime_wasi_nn::wit::add_to_linker(linker, |state: &mut GuestState| {
        let (table, nn) = state.wasi_nn();
        WasiNnView::new(table, nn)
    })?;
    wasmtime_wasi::p2::add_to_linker_with_options_sync(linker, &wasi_sync::LinkOptions::default())?;
    linker.allow_shadowing(true);
    link_counted_tensors(linker)?;
    link_refused_waits(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Links the imports of components for version 0.1.
fn link_pipeline_v01(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    use v0_1::vision::rostro::pipeline::{samples, settings, telemetry};
    settings::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    telemetry::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    samples::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Links the imports of components for version 0.2.
fn link_pipeline_v02(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    use v0_2::about::rostro::pipeline::{samples, settings, telemetry};
    settings::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    telemetry::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    samples::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Replaces the constructor of tensors by one that counts them, because `wasmtime-wasi-nn` only
/// limits their handles, and each tensor may be as large as a call.
fn link_counted_tensors(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type Parts = (Vec<u32>, TensorType, Vec<u8>);
    let make = |mut store: StoreContextMut<'_, GuestState>, (dimensions, ty, data): Parts| {
        let state = store.data_mut();
        let tensor = state.push_tensor(Tensor {
            dimensions,
            ty,
            data,
        })?;
        Ok((tensor,))
    };
    linker
        .instance("wasi:nn/tensor@0.2.0-rc-2024-10-28")?
        .func_wrap("[constructor]tensor", make)
}

/// Replaces the functions that wait by traps, because an epoch cannot interrupt a host call.
///
/// A guest that sleeps would keep its worker past every deadline. A pipeline has nothing to wait
/// for.
fn link_refused_waits(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    type Pollables = Vec<Resource<DynPollable>>;
    let refused = || wasmtime::Error::from(WaitRefused);
    let mut poll = linker.instance("wasi:io/poll@0.2.12")?;
    poll.func_wrap("poll", move |_, (_,): (Pollables,)| {
        Err::<(Vec<u32>,), _>(refused())
    })?;
    poll.func_wrap(
        "[method]pollable.block",
        move |_, (_,): (Resource<DynPollable>,)| Err::<(), _>(refused()),
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rostro_inference::Models;
    use wasmtime::Store;
    use wasmtime::component::Component;

    use super::*;
    use crate::engine::Engine;
    use crate::guest::state::GuestInputs;
    use crate::half::Half;
    use crate::limits::Limits;

    /// Component that sleeps for a number of nanoseconds.
    const SLEEPER: &str = r#"
        (component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $imported))
                (export "pollable" (type $own (eq $imported)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $own))))))
            (core func $subscribe (canon lower (func $clock "subscribe-duration")))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core module $module
                (import "" "subscribe" (func $subscribe (param i64) (result i32)))
                (import "" "block" (func $block (param i32)))
                (func (export "sleep") (param i64) (call $block (call $subscribe (local.get 0)))))
            (core instance $instance (instantiate $module (with "" (instance
                (export "subscribe" (func $subscribe))
                (export "block" (func $block))))))
            (func (export "sleep") (param "nanoseconds" u64)
                (canon lift (core func $instance "sleep"))))
    "#;

    #[test]
    fn sleeping_guest_traps_immediately() {
        let limits = Limits::default();
        let engine = Engine::new(limits.clone(), 1).unwrap();
        let mut linker = Linker::new(engine.wasmtime());
        add_to_linker(&mut linker).unwrap();
        let component =
            Component::new(engine.wasmtime(), wat::parse_str(SLEEPER).unwrap()).unwrap();
        let (meter, now) = (engine.meters().of(Half::Vision).clone(), Instant::now());
        let state = GuestState::new(
            &limits,
            meter,
            GuestInputs::default(),
            &Models::default(),
            &now.into(),
            now,
        );
        let mut store = Store::new(engine.wasmtime(), state);
        store.set_epoch_deadline(1_000_000);
        let instance = linker.instantiate(&mut store, &component).unwrap();
        let sleep = instance
            .get_typed_func::<(u64,), ()>(&mut store, "sleep")
            .unwrap();
        let started = Instant::now();
        let error = sleep.call(&mut store, (3_600_000_000_000,)).unwrap_err();
        assert!(error.is::<WaitRefused>(), "{error:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}
