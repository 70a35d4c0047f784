//! The least that calls and is called: registers, calls an address or takes the first call, and plays the
//! other side's words back to them.
//!
//! ```text
//! cargo run -p cusax-client --features tokio --example softphone -- sip:alice@example.org PROXY PASSWORD [ADDRESS]
//! ```

use std::collections::VecDeque;
use std::{env, error::Error};

use cusax_client::driver::Roots;
use cusax_client::driver::audio::{Device, Frame};
use cusax_client::driver::voice::{Account, Event, Voice};
use cusax_sip::flow::Transport;
use tokio::sync::mpsc;

/// What was heard is said a second later.
#[derive(Default)]
struct Echo(VecDeque<Frame>);

impl Device for Echo {
    fn capture(&mut self, frame: &mut Frame) -> bool {
        let late = self.0.len() > SECOND;
        late.then(|| self.0.pop_front()).flatten().map(|heard| *frame = heard).is_some()
    }

    fn play(&mut self, frame: &Frame) {
        self.0.push_back(*frame);
    }
}

/// In frames of 20 ms.
const SECOND: usize = 50;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [aor, proxy, password, to @ ..] = &arguments[..] else {
        return Err("ADDRESS PROXY PASSWORD [ADDRESS]".into());
    };
    let aor: cusax::identity::Aor = aor.parse()?;
    let account = Account {
        realm: aor.host().to_owned(),
        user: aor.user().to_owned(),
        aor,
        name: None,
        password: password.clone(),
        proxy: Some(proxy.clone()),
        transport: Transport::Tcp,
        register: true,
        impp: None,
        roots: Roots::System,
    };
    let (sender, mut events) = mpsc::channel::<Event>(16);
    let connected = Voice::connect(&account, None, sender).await;
    let mut voice = connected.map_err(|(lost, _)| lost)?;
    if let Some(to) = to.first() {
        voice.call(to.parse()?, Echo::default()).await;
    }
    while let Some(event) = events.recv().await {
        println!("{event:?}");
        match event {
            Event::Incoming(_) => voice.answer(Echo::default()).await,
            Event::Ended(_) | Event::Lost { .. } => break,
            Event::Ringing | Event::Connected { .. } | Event::Held(_) | Event::Conference(_) => {}
        }
    }
    voice.stop().await;
    Ok(())
}
