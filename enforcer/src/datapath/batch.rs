//! Entries of a hash map, some thousand a system call.
//!
//! libbpf-rs has an iterator to read them (0.27), but that takes a batch which is not full for the last one, and the kernel ends a batch
//! where the next bucket does not fit.

use std::os::fd::AsRawFd;

use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, libbpf_sys};

/// Room for the longest bucket, or the kernel refuses.
const BATCH: usize = 4096;

/// Hands out each key with its value. What is written meanwhile may be seen or not.
pub fn each(map: &MapHandle, mut take: impl FnMut(&[u8], &[u8])) -> Result<(), libbpf_rs::Error> {
    let (key_size, value_size) = (map.key_size() as usize, map.value_size() as usize);
    let mut keys = vec![0_u8; BATCH * key_size];
    let mut values = vec![0_u8; BATCH * value_size];
    // Where the kernel goes on: a bucket's number.
    let (mut from, mut next) = (None, 0_u64);
    let options = libbpf_sys::bpf_map_batch_opts {
        sz: size_of::<libbpf_sys::bpf_map_batch_opts>() as u64,
        ..Default::default()
    };
    loop {
        let mut count = BATCH as u32;
        let mut start: u64 = from.unwrap_or_default();
        let start_at = match from {
            Some(_) => std::ptr::from_mut(&mut start).cast(),
            None => std::ptr::null_mut(),
        };
        // SAFETY: the buffers hold `count` keys and values of the map's sizes, and the kernel writes no more of them; where it
        // begins and goes on takes up 4 bytes.
        let result = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                std::os::fd::AsFd::as_fd(map).as_raw_fd(),
                start_at,
                std::ptr::from_mut(&mut next).cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &mut count,
                &options,
            )
        };
        let error = (result < 0).then(|| libbpf_rs::Error::from_raw_os_error(-result));
        let ended = match error {
            None => false,
            Some(error) if error.kind() == ErrorKind::NotFound => true,
            Some(error) if error.kind() == ErrorKind::Interrupted => continue,
            Some(error) => return Err(error),
        };
        let found = keys.chunks_exact(key_size).zip(values.chunks_exact(value_size));
        found
            .take(count as usize)
            .for_each(|(key, value)| take(key, value));
        if ended {
            return Ok(());
        }
        from = Some(next);
    }
}

/// Writes many entries: keys and values one behind the other.
pub fn put(map: &MapHandle, keys: &[u8], values: &[u8]) -> Result<(), libbpf_rs::Error> {
    let (key_size, value_size) = (map.key_size() as usize, map.value_size() as usize);
    for (keys, values) in keys
        .chunks(BATCH * key_size)
        .zip(values.chunks(BATCH * value_size))
    {
        let count = (keys.len() / key_size) as u32;
        map.update_batch(keys, values, count, MapFlags::ANY, MapFlags::ANY)?;
    }
    Ok(())
}

/// Entries that are written whenever there are many of them, so that however many come, few wait.
pub struct Batch<'a> {
    map: &'a MapHandle,
    keys: Vec<u8>,
    values: Vec<u8>,
}

impl<'a> Batch<'a> {
    pub fn new(map: &'a MapHandle) -> Self {
        Self {
            map,
            keys: Vec::new(),
            values: Vec::new(),
        }
    }

    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), libbpf_rs::Error> {
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
        if self.keys.len() >= BATCH * self.map.key_size() as usize {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes those that still wait.
    pub fn end(mut self) -> Result<(), libbpf_rs::Error> {
        self.flush()
    }

    fn flush(&mut self) -> Result<(), libbpf_rs::Error> {
        put(self.map, &self.keys, &self.values)?;
        self.keys.clear();
        self.values.clear();
        Ok(())
    }
}

/// Takes many entries out.
///
/// # Errors
/// If one of them is not there: those before it are gone then, and the others not.
pub fn delete(map: &MapHandle, keys: &[u8]) -> Result<(), libbpf_rs::Error> {
    let key_size = map.key_size() as usize;
    for keys in keys.chunks(BATCH * key_size) {
        let count = (keys.len() / key_size) as u32;
        map.delete_batch(keys, count, MapFlags::ANY, MapFlags::ANY)?;
    }
    Ok(())
}
