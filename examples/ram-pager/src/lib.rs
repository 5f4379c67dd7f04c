//! A pager that keeps its pages in memory. The name given to open is the object's size in bytes.
#![deny(unsafe_code)]

use quire_pager::{Error, GetRun, Host, Object, OpenRequest, Opened, Pager, Put, PutRun, Result, export_pager};
use std::{collections::HashMap, ffi::CStr, sync::Mutex};

struct Ram;

struct Store(Mutex<HashMap<u64, Vec<u8>>>);

impl Pager for Ram {
    const NAME: &'static CStr = c"ram";
    type Object = Store;

    fn init(_host: Host, _config: Option<&str>) -> Result<Self> {
        Ok(Ram)
    }

    fn open(&self, request: &OpenRequest<'_>) -> Result<Opened<Store>> {
        let name = request.text()?;
        let size = name
            .parse()
            .map_err(|_| Error::invalid("the name is not a size in bytes"))?;
        Ok(Opened::new(Store(Mutex::default()), size))
    }
}

impl Object for Store {
    fn get(&self, run: &mut GetRun<'_>) -> Result<()> {
        let pages = self.0.lock()?;
        for page in run.pages() {
            let data = pages.get(&page.index());
            page.fill(data.map_or(&[], Vec::as_slice));
        }
        Ok(())
    }
}

impl Put for Store {
    fn put(&self, run: &mut PutRun<'_>) -> Result<()> {
        let mut pages = self.0.lock()?;
        for page in run.pages() {
            pages.insert(page.index(), page.data().to_vec());
            page.written();
        }
        Ok(())
    }
}

export_pager!(Ram);
