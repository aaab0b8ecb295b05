//! The reader of runs, on bytes as they are and on bytes whose seals were repaired.
#![no_main]

use firebackup_codec::Sealing;
use firebackup_codec::run::reader::read_whole;
use firebackup_fuzz::{REPOSITORY, RUN, data_key, repair_run};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8], sealing: &Sealing) {
    let mut records = 0;
    let footer = read_whole(bytes, RUN, REPOSITORY, sealing, |_| records += 1);
    if let Ok(footer) = footer {
        assert_eq!(footer.records, records);
        assert_eq!(footer.blocks.iter().map(|block| u64::from(block.records)).sum::<u64>(), records);
    }
}

fuzz_target!(|data: &[u8]| {
    read(data, &data_key());
    read(data, &Sealing::Plain);
    if let Some(repaired) = repair_run(data) {
        read(&repaired, &Sealing::Plain);
    }
});
