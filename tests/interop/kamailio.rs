//! Kamailio: registrar and outbound proxy in front of the focus.

use std::{fs, net::TcpStream, path::Path};

use crate::{
    process::{Process, command},
    site::{CONFERENCES, PHONES, Ports, USERS, password},
    wait::{PATIENCE, until},
};

/// A Kamailio that challenges everybody, tells the focus who called by P-Asserted-Identity, and
/// takes requests of the focus as they are.
pub(crate) struct Kamailio {
    process: Process,
}

impl Kamailio {
    /// Writes its configuration into `dir` and starts it.
    pub(crate) fn start(dir: &Path, ports: Ports) -> Self {
        let dir = dir.join("kamailio");
        fs::create_dir_all(&dir).expect("the site's folder is ours");
        let config = dir.join("kamailio.cfg");
        fs::write(&config, configuration(ports)).expect("a file of ours");
        let mut kamailio = command("kamailio");
        kamailio.arg("-f").arg(&config).arg("-P").arg(dir.join("pid"));
        kamailio.arg("-w").arg(&dir).args(["-m", "32", "-M", "4", "-DD", "-E"]);
        let process = Process::start("kamailio", &mut kamailio, &dir.join("kamailio.log"), false);
        until("Kamailio listens", PATIENCE, || {
            TcpStream::connect(("127.0.0.1", ports.proxy)).ok().map(drop)
        });
        Self { process }
    }

    /// The requests that it took: `METHOD URI from WHO at PROTOCOL:ADDRESS:PORT`.
    pub(crate) fn requests(&self) -> Vec<String> {
        let lines = self.process.output();
        let requests = lines.lines().filter_map(|line| Some(line.split_once("<script>: ")?.1));
        requests.map(str::to_owned).collect()
    }
}

fn configuration(ports: Ports) -> String {
    let Ports { proxy, sip, .. } = ports;
    let users: String = USERS
        .iter()
        .map(|user| format!("    $sht(users=>{user}) = \"{}\";\n", password(user)))
        .collect();
    format!(
        r#"#!KAMAILIO
debug=2
log_stderror=yes
children=1
tcp_children=1
auto_aliases=no
listen=udp:127.0.0.1:{proxy}
listen=tcp:127.0.0.1:{proxy}
alias="{PHONES}"
alias="127.0.0.1:{proxy}"
tcp_accept_no_cl=yes
loadmodule "kex.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "sanity.so"
loadmodule "htable.so"
loadmodule "auth.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
modparam("usrloc", "db_mode", 0)
modparam("registrar", "gruu_enabled", 0)
modparam("htable", "htable", "users=>size=6;")
modparam("rr", "enable_full_lr", 1)

event_route[htable:mod-init] {{
{users}}}

request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (!sanity_check("1511", "7")) exit;
    xlog("L_NOTICE", "$rm $ru from $fu at $proto:$si:$sp\n");
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        t_relay(); exit;
    }}
    if (is_method("REGISTER")) {{
        route(WHO);
        if (!save("location")) sl_reply_error();
        exit;
    }}
    remove_hf("P-Asserted-Identity");
    if (!($si == "127.0.0.1" && $sp == {sip})) {{
        route(WHO);
        append_hf("P-Asserted-Identity: <sip:$au@{PHONES}>\r\n");
    }}
    record_route();
    # Linphone subscribes to the conference at the address of its proxy.
    if ($rd == "{CONFERENCES}" || $rU =~ "^conf") {{
        $du = "sip:127.0.0.1:{sip};transport=" + $proto;
        t_relay(); exit;
    }}
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    t_relay();
}}

route[WHO] {{
    if ($aU == $null || !pv_auth_check("{PHONES}", "$sht(users=>$aU)", "0", "0")) {{
        auth_challenge("{PHONES}", "1");
        exit;
    }}
    consume_credentials();
}}
"#
    )
}
