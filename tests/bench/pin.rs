//! Pins a process to cores.
#![allow(unsafe_code)]

use std::io;

/// Pins the calling thread, and those that it starts from now on, to the cores.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    // SAFETY: all zeros is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &core in cores.iter().filter(|&&core| core < libc::CPU_SETSIZE as usize) {
        // SAFETY: the core lies within the set.
        unsafe { libc::CPU_SET(core, &mut set) };
    }
    // SAFETY: the set is initialised and its size is given.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
