from pathlib import Path

import msgspec
import pytest
import trustme

from banish.caching.policy import CachePolicy
from banish.edge.config import Config, Rule, in_force, load, needs_restart, redacted
from banish.edge.reading import settings
from banish.errors import ConfigError, Problem

ORIGIN = {"origin": ["http://origin.example"]}


def write(directory: Path, text: str) -> Path:
    path = directory / "banish.toml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(directory: Path, text: str, env: dict[str, str] | None = None) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(write(directory, text), env)
    return caught.value.problems


def test_an_origin_is_all_it_takes() -> None:
    config = load(flags=ORIGIN)
    (site,) = config.sites
    assert site.hosts == ("*",)
    assert site.origin == ("http://origin.example",)
    assert site.host_header == "origin"


def test_without_an_origin_it_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match="--origin URL"):
        load()


def test_flags_win_over_environment_over_file_over_default(tmp_path: Path) -> None:
    path = write(tmp_path, 'data = "from-file"\n[memory]\nbudget_bytes = "64MiB"\n[limits]\nconnections = 7')
    env = {"BANISH_DATA": "from-env", "BANISH_MEMORY_BUDGET_BYTES": "128MiB", "BANISH_ORIGIN": "http://a,http://b"}
    config = load(path, env, {"data": "/from-flag"})
    assert config.data == "/from-flag"
    assert config.memory.budget_bytes == 128 * 1024**2
    assert config.limits.connections == 7
    assert config.timeouts.head_s == 10
    assert config.sites[0].origin == ("http://a", "http://b")


def test_a_lone_text_stands_for_a_list_or_a_table(tmp_path: Path) -> None:
    path = write(tmp_path, 'listen = ":0"\n[[sites]]\norigin = "http://a"\nhosts = "a.example"\nrules = ["/x*"]')
    config = load(path)
    assert config.listen[0].address == ":0"
    assert config.sites[0].hosts == ("a.example",)
    assert config.sites[0].rules[0].path == ("/x*",)


def test_units_may_be_written_out(tmp_path: Path) -> None:
    path = write(tmp_path, '[[sites]]\norigin = "http://a"\n[sites.cache]\noverride_ttl_s = "1h 30m"')
    assert load(path).sites[0].cache.override_ttl_s == 5400


def test_paths_start_from_the_directory_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'data = "cache"\nlog = { access = "-" }\n[[sites]]\norigin = "http://a"')
    config = load(path)
    assert config.data == str(tmp_path / "cache")
    assert config.log.access == "-"


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        'dta = "x"\n[limits]\nrequest_fields = "many"\n[log]\nformat = "xml"\n[[sites]]\norigin = "ftp://a"\n'
        '[[sites.rules]]\npath = "static/*"\n',
    )
    assert [(problem.line, problem.key) for problem in found] == [
        (1, "dta"),
        (3, "limits.request_fields"),
        (5, "log.format"),
        (7, "sites[0].origin[0]"),
        (9, "sites[0].rules[0].path"),
    ]


def test_an_unknown_setting_gets_a_suggestion(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, '[memory]\nbudget = "1GiB"\n[[sites]]\norigin = "http://a"')
    assert str(found) == f"{tmp_path}/banish.toml:2: memory.budget: is not a setting; did you mean 'budget_bytes'?"


def test_a_missing_setting_is_described(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, '[[sites]]\nname = "a"')
    assert found.what == "is missing"
    assert found.right.startswith("Where the content comes from")


def test_out_of_range_says_the_range(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, '[limits]\nrequest_head_bytes = 3\n[[sites]]\norigin = "http://a"')
    assert found.what == "3 is not a whole number from 1024 to 1048576 (bytes)"


def test_a_problem_of_a_variable_names_the_variable(tmp_path: Path) -> None:
    env = {"BANISH_LOG_LEVEL": "loud", "BANISH_MEMORY_BUDGET": "1"}
    found = problems(tmp_path, '[[sites]]\norigin = "http://a"', env)
    assert {(problem.where, problem.line) for problem in found} == {
        ("BANISH_LOG_LEVEL", None),
        ("BANISH_MEMORY_BUDGET", None),
    }


def test_variables_that_kubernetes_sets_are_let_be() -> None:
    load(env={"BANISH_PORT": "tcp://10.0.0.1:80", "BANISH_SERVICE_HOST": "10.0.0.1"}, flags=ORIGIN)


def test_what_is_not_toml_is_told_with_its_line(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, 'node = "a"\nlisten = = 3')
    assert (found.line, found.what) == (2, "is not TOML: invalid value")


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file"):
        load("absent.toml")


def test_an_origin_flag_beside_several_sites_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, '[[sites]]\nname="a"\nhosts="a"\norigin="http://a"\n[[sites]]\nname="b"\norigin="http://b"')
    with pytest.raises(ConfigError, match="--origin: names an origin, but the file has 2 sites"):
        load(path, None, ORIGIN)


def test_an_unknown_name_given_to_set_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"memory\.budget: is not a setting; did you mean 'memory\.budget_bytes'"):
        load(flags={**ORIGIN, "memory.budget": "1GiB"})


def test_the_admin_listener_stays_on_loopback_without_a_token() -> None:
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        load(flags={**ORIGIN, "admin.listen": "0.0.0.0:8081"})
    load(flags={**ORIGIN, "admin.listen": "0.0.0.0:8081", "admin.token_sha256": "0" * 64})
    load(flags={**ORIGIN, "admin.listen": "off"})


def test_one_host_has_one_site(tmp_path: Path) -> None:
    text = '[[sites]]\nname="a"\nhosts="A.example"\norigin="http://a"\n[[sites]]\nhosts="a.example"\norigin="http://b"'
    (found,) = problems(tmp_path, text)
    assert found.what == '"a.example" is answered by sites[0] already'


def test_waits_of_nothing_are_refused(tmp_path: Path) -> None:
    text = '[[sites]]\norigin = "http://a"\norigin_timeouts = { connect_s = -1, total_s = inf }'
    (found,) = problems(tmp_path, text)
    assert found.key == "sites[0].origin_timeouts.connect_s"


def test_policies_out_of_range_are_told(tmp_path: Path) -> None:
    text = '[[sites]]\norigin = "http://a"\ncache = { override_ttl_s = -5, heuristic_fraction = 3 }'
    assert [problem.what for problem in problems(tmp_path, text)] == ["-5.0 is not 0 or more", "3.0 is not from 0 to 1"]


def test_an_origin_without_a_scheme_gets_a_suggestion(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, '[[sites]]\norigin = "10.0.0.11:8000"')
    assert found.right == 'did you mean "http://10.0.0.11:8000"?'


@pytest.mark.parametrize(("name", "words"), [("name", "64 at most"), ("hosts", "one at least")])
def test_what_a_text_or_list_must_be_like_is_told(name: str, words: str, tmp_path: Path) -> None:
    wrong = {"name": '"my shop"', "hosts": "[]"}[name]
    (found,) = problems(tmp_path, f'[[sites]]\norigin = "http://a"\n{name} = {wrong}')
    assert words in found.what


@pytest.mark.parametrize(
    ("listen", "admin", "key"),
    [
        ('[":8000", "127.0.0.1:8000"]', "off", "listen[1].address"),
        ('["0.0.0.0:8000", "127.0.0.1:8000"]', "off", "listen[1].address"),
        ('["127.0.0.1:8000"]', "127.0.0.1:8000", "admin.listen"),
    ],
)
def test_one_address_is_listened_on_once(listen: str, admin: str, key: str, tmp_path: Path) -> None:
    (found,) = problems(tmp_path, f'listen = {listen}\nadmin.listen = "{admin}"\n[[sites]]\norigin = "http://a"')
    assert (found.key, found.right) == (key, "see listen[0]")


def test_addresses_that_do_not_meet_may_share_a_port() -> None:
    load(flags={**ORIGIN, "listen": ["127.0.0.1:8000", "127.0.0.2:8000", "[::]:8000", ":0", ":0"]})


def test_an_access_log_needs_its_directory(tmp_path: Path) -> None:
    text = 'log.access = "absent/access.log"\n[[sites]]\norigin = "http://a"'
    (found,) = problems(tmp_path, text)
    assert found.key == "log.access"
    (tmp_path / "absent").mkdir()
    load(write(tmp_path, text))


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    made = trustme.CA().issue_cert("edge.example")
    chain, key = directory / f"{name}.pem", directory / f"{name}.key"
    made.cert_chain_pems[0].write_to_path(chain)
    made.private_key_pem.write_to_path(key)
    return chain, key


def listener(chain: Path | str, key: Path | str) -> str:
    return (
        f'listen = [{{ address = ":0", tls = [{{ certificate = "{chain}", key = "{key}" }}] }}]\n'
        '[[sites]]\norigin = "http://a"'
    )


def test_a_certificate_with_its_key_is_sound(tmp_path: Path) -> None:
    load(write(tmp_path, listener(*certificate(tmp_path, "a"))))


def test_a_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    chain, _ = certificate(tmp_path, "a")
    _, key = certificate(tmp_path, "b")
    (found,) = problems(tmp_path, listener(chain, key))
    assert (found.key, found.what) == ("listen[0].tls[0].key", "does not belong to the certificate")


def test_certificate_files_that_are_missing_or_no_certificates_are_told(tmp_path: Path) -> None:
    missing = problems(tmp_path, listener("absent.pem", "absent.key"))
    assert [problem.key for problem in missing] == ["listen[0].tls[0].certificate", "listen[0].tls[0].key"]
    (tmp_path / "junk").write_text("junk")
    (junk,) = problems(tmp_path, listener("junk", "junk"))
    assert "cannot be used" in junk.what


def test_secrets_are_left_out_of_what_is_shown() -> None:
    config = load(flags={**ORIGIN, "admin.token_sha256": "0" * 64})
    assert redacted(config)["admin"]["token_sha256"] == "***"
    assert redacted(load(flags=ORIGIN))["admin"]["token_sha256"] is None


def test_what_a_reload_cannot_change_is_named() -> None:
    one, other = load(flags=ORIGIN), load(flags={**ORIGIN, "listen": [":1"], "log.level": "debug"})
    assert needs_restart(one, other) == ["listen"]
    assert needs_restart(one, one) == []


def test_what_a_reload_cannot_change_stays_in_force() -> None:
    one = load(flags={**ORIGIN, "log.access": "off"})
    other = load(flags={"origin": ["http://b"], "listen": [":1"], "log.level": "debug"})
    config = in_force(one, other)
    assert (config.listen, config.log.access) == (one.listen, "off")
    assert (config.sites[0].origin, config.log.level) == (("http://b",), "debug")
    assert needs_restart(config, other) == ["listen", "log.access"], "and is still named at the next reload"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("node", "edge-2", "node"),
        ("log.access", "/var/log/access.log", "log.access"),
        ("log.format", "json", "log.format"),
        ("memory.budget_bytes", "64MiB", "memory"),
        ("admin.listen", "127.0.0.1:9999", "admin.listen"),
    ],
)
def test_what_is_held_open_or_sized_at_start_is_named_alone(name: str, value: str, told: str) -> None:
    assert needs_restart(load(flags=ORIGIN), load(flags={**ORIGIN, name: value})) == [told]


def test_every_setting_is_described_and_every_variable_is_one_settings_alone() -> None:
    rows = list(settings(Config))
    assert [row.name for row in rows if not row.description] == []
    variables = [row.env for row in rows if row.env]
    assert len(variables) == len(set(variables))


def test_a_rule_changes_only_what_a_policy_has() -> None:
    rule = {field.name for field in msgspec.structs.fields(Rule)} - {"path"}
    assert rule <= {field.name for field in msgspec.structs.fields(CachePolicy)}


def test_a_parent_is_a_url_whose_host_begins_with_its_name_or_says_its_name(tmp_path: Path) -> None:
    text = 'origin = "http://a"\nparent = ["https://paris.example", {member = "delhi", url = "http://10.0.0.1:80"}]'
    (site,) = load(write(tmp_path, f"[[sites]]\n{text}")).sites
    assert [(parent.name, parent.url) for parent in site.parent] == [
        ("paris", "https://paris.example"), ("delhi", "http://10.0.0.1:80"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parent", "what"),
    [
        ('"ftp://paris.example"', "expected http"),
        ('"unix:/run/paris"', "no URL of another edge"),
        ('"http://10.0.0.1"', "is missing"),
        ('"http://[::1]:80"', "is missing"),
        ('["http://paris.a", "http://paris.b"]', "named twice"),
    ],
)
def test_a_parent_that_cannot_be_asked_is_said_to_be_wrong(tmp_path: Path, parent: str, what: str) -> None:
    (problem,) = problems(tmp_path, f'[[sites]]\norigin = "http://a"\nparent = {parent}')
    assert what in str(problem)
    assert problem.key.startswith("sites[0].parent[")
