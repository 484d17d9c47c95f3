//! Tests of the real binary on throwaway projects.

mod annotations;
mod build_systems;
mod cc;
mod ccache;
mod commands;
mod ext;
mod python;
mod real;
mod report;
mod stub;
mod trace;
