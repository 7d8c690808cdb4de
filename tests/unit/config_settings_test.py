"""Settings: layers, sources, clear errors, masked secrets."""

from pathlib import Path

import pytest

from aicache.cli.settings import MASK, kafka_settings, load
from aicache.privacy.errors import LocalError
from aicache.producers.connection import KafkaSettings


def written(folder: Path, text: str) -> Path:
    path = folder / "aicache.toml"
    path.write_text(text)
    return path


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, '[kafka]\nbootstrap_servers = "file:1"\nprefix = "file."\ndeployment = "file"\n')
    env = {"AICACHE_KAFKA__PREFIX": "env.", "AICACHE_KAFKA__DEPLOYMENT": "env", "PATH": "/bin"}
    loaded = load(file=file, env=env, flags={"kafka.deployment": "flag"})
    kafka = loaded.settings.kafka
    assert (kafka.bootstrap_servers, kafka.prefix, kafka.deployment) == ("file:1", "env.", "flag")
    rows = {key: source for key, _, source in loaded.rows()}
    assert rows["kafka.bootstrap_servers"] == str(file)
    assert rows["kafka.prefix"] == "AICACHE_KAFKA__PREFIX"
    assert rows["kafka.deployment"] == "--set kafka.deployment"
    assert rows["client.n_min"] == "default"


def test_the_file_in_the_folder_is_found(tmp_path: Path) -> None:
    file = written(tmp_path, "[client]\nn_min = 7\n")
    loaded = load(env={}, here=tmp_path)
    assert loaded.settings.client.n_min == 7
    assert loaded.file == file


def test_a_variable_can_name_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "[client]\nn_min = 7\n")
    assert load(env={"AICACHE_CONFIG": str(file)}).settings.client.n_min == 7


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[kafka]\nbootsrap = "a"\n', "unknown key kafka.bootsrap"),
        ("[kafak]\n", "unknown key kafak"),
        ('[client]\nn_min = "many"\n', "client.n_min: "),
        ("[client]\nn_min = 1\n", "client.n_min: "),
        ("kafka = 3\n", "kafka: "),
        ('[operator]\nadmission = "all"\n', "operator.admission: "),
        ("[kafka\n", "is no TOML"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_key_and_file(tmp_path: Path, text: str, complaint: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(LocalError) as caught:
        load(file=file, env={})
    assert str(file) in str(caught.value)
    assert complaint in str(caught.value)


def test_all_wrong_keys_are_told_at_once(tmp_path: Path) -> None:
    file = written(tmp_path, '[client]\nn_min = "many"\nn_max = 3\n')
    with pytest.raises(LocalError) as caught:
        load(file=file, env={})
    assert "unknown key client.n_max" in str(caught.value)
    assert "client.n_min: " in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"nowhere\.toml does not exist"):
        load(file=tmp_path / "nowhere.toml", env={})


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("AICACHE_KAFKA__PRFIX", "x.", "AICACHE_KAFKA__PRFIX: unknown key kafka.prfix"),
        ("AICACHE_KAFAK__PREFIX", "x.", "AICACHE_KAFAK__PREFIX in the environment"),
        ("AICACHE_LOCAL__PORT", "high", "AICACHE_LOCAL__PORT: local.port: "),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(LocalError) as caught:
        load(env={variable: value}, here=tmp_path)
    assert complaint in str(caught.value)


def test_a_wrong_flag_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"--set local\.prt: unknown key local\.prt"):
        load(env={}, flags={"local.prt": "1"}, here=tmp_path)


@pytest.mark.parametrize("text", ["a,b", '["a", "b"]', " a , b "])
def test_a_list_is_written_with_commas_or_as_json(text: str, tmp_path: Path) -> None:
    assert load(env={"AICACHE_CLIENT__TASKS": text}, here=tmp_path).settings.client.tasks == ["a", "b"]


def test_security_settings_reach_the_client_however_they_are_spelt_and_are_never_shown(tmp_path: Path) -> None:
    text = '[kafka]\nbootstrap_servers = "k:1"\nsecurity.sasl.username = "me"\n"security"."sasl.password" = "hunter2"\n'
    env = {"AICACHE_KAFKA__SECURITY__SECURITY_PROTOCOL": "SASL_SSL"}
    loaded = load(file=written(tmp_path, text), env=env, flags={"kafka.security.ssl.key.password": "hunter3"})
    config = kafka_settings(loaded.settings).client_config(client_id="me")
    assert config == {
        "bootstrap.servers": "k:1",
        "log_level": 3,
        "client.id": "me",
        "security.protocol": "SASL_SSL",
        "sasl.username": "me",
        "sasl.password": "hunter2",
        "ssl.key.password": "hunter3",
    }
    rows = {key: (value, source) for key, value, source in loaded.rows()}
    assert rows["kafka.security.sasl.password"][0] == MASK
    assert rows["kafka.security.security.protocol"] == ("SASL_SSL", "AICACHE_KAFKA__SECURITY__SECURITY_PROTOCOL")
    assert "hunter" not in str(loaded.rows())
    assert "hunter" not in repr(kafka_settings(loaded.settings))


def test_the_registrys_password_is_masked_and_an_error_does_not_quote_it(tmp_path: Path) -> None:
    loaded = load(env={"AICACHE_REGISTRY__PASSWORD": "hunter2"}, here=tmp_path)
    assert "hunter2" not in str(loaded.rows())
    with pytest.raises(LocalError) as caught:
        load(env={"AICACHE_REGISTRY__PASWORD": "hunter2"}, here=tmp_path)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["no-dot", "a b.", "ü.", "x" * 101 + "."])
def test_a_prefix_that_kafka_would_refuse_is_refused_first(prefix: str) -> None:
    with pytest.raises(LocalError, match="prefix") as caught:
        KafkaSettings("k:1", prefix=prefix)
    assert caught.value.got == prefix


@pytest.mark.parametrize("key", ["group.id", "bootstrap.servers", "isolation.level"])
def test_what_aicache_sets_itself_cannot_be_set_as_security(key: str) -> None:
    with pytest.raises(LocalError, match=key):
        KafkaSettings("k:1", security={key: "x"})


def test_names_carry_the_prefix() -> None:
    assert KafkaSettings("k:1", prefix="x.").name("aicache.rounds") == "x.aicache.rounds"
