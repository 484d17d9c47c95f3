//! Tests of the real binary on throwaway projects.

mod build_systems;
mod cc;
mod ccache;
mod report;
mod stub;
mod trace;
