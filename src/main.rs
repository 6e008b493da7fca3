//! The program: everything is in the library.
//!
//! By itself the allocator keeps as much freed memory as is in use: four arenas for each processor, each of
//! which holds its freed pages for ten seconds. Two arenas are enough for few threads that allocate in large
//! pieces, and freed pages go back within a fifth of a second.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc reads its settings here before anything is allocated.
#[expect(unsafe_code, reason = "the name is fixed by jemalloc; it is a constant, and nothing is called")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static MALLOC_CONF: &[u8; 46] = b"narenas:2,dirty_decay_ms:200,muzzy_decay_ms:0\0";

fn main() -> std::process::ExitCode {
    strandline::cli::main()
}
