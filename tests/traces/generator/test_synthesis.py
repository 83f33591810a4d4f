"""The trace generator: reproducible, phone by phone, and the reference set close to the published statistics."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fedsim.errors import InputError
from fedsim.files import shipped
from fedsim.traces.canonical import CHANNEL_CODE, NETWORK_CODE, TraceSet
from fedsim.traces.criteria import Rule, compile_channel, compile_rule
from fedsim.traces.folder import load_traces
from fedsim.traces.generator.parameters import DURATION_PROBABILITIES, LAWS, SynthesisParameters
from fedsim.traces.generator.synthesis import REFERENCE, synthesize, write_reference
from fedsim.traces.generator.walk import segment_means
from fedsim.traces.statistics import stats
from fedsim.traces.validation import validate
from fedsim.units import DAY_MS

COLUMNS = ("at_ms", "channel", "value", "is_sentinel")


@pytest.fixture(scope="module")
def parameters() -> SynthesisParameters:
    return SynthesisParameters.load(REFERENCE)


@pytest.fixture(scope="module")
def reference() -> TraceSet:
    return load_traces(shipped("traces", "reference"))


def same_events(a: TraceSet, b: TraceSet) -> bool:
    return all(getattr(a.events, name).tobytes() == getattr(b.events, name).tobytes() for name in COLUMNS)


def events_of(traces: TraceSet, channel: str, device: int = 0) -> list[tuple[float, float]]:
    """(seconds, value) of one device's channel."""
    part = slice(traces.offsets[device], traces.offsets[device + 1])
    wanted = traces.events.channel[part] == CHANNEL_CODE[channel]
    at_s = traces.events.at_ms[part][wanted] / 1000
    return list(zip(at_s.tolist(), traces.events.value[part][wanted].tolist(), strict=True))


# --- reproducible -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_shipped_set_is_what_its_own_command_writes(reference: TraceSet, tmp_path: Path) -> None:
    write_reference(tmp_path / "again")
    again = load_traces(tmp_path / "again")
    assert same_events(again, reference)
    assert again.provenance == reference.provenance
    assert [again.facts[name].tolist() for name in again.facts] == [
        reference.facts[name].tolist() for name in reference.facts
    ]
    for name in ("device_id", "start_ms", "period_ms", "is_local", "offsets"):
        assert np.array_equal(getattr(again, name), getattr(reference, name)), name


def test_the_shipped_set_is_small_and_says_how_it_was_made(reference: TraceSet) -> None:
    folder = shipped("traces", "reference")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_500_000
    made_with = {key: reference.provenance[key] for key in ("n_devices", "n_days")}
    assert made_with == {"n_devices": 200, "n_days": 7}
    assert reference.n == 200
    assert set(reference.channels()) == {"network", "charging", "screen", "locked", "battery"}


def test_a_phone_is_the_same_in_a_larger_set(parameters: SynthesisParameters) -> None:
    many = synthesize(parameters, n_devices=5, n_days=1, seed=3)
    for n in (1, 2):
        few = synthesize(parameters, n_devices=n, n_days=1, seed=3)
        for name in COLUMNS:
            kept = getattr(many.events, name)[: many.offsets[n]]
            assert getattr(few.events, name).tobytes() == kept.tobytes(), name
        assert few.facts["model"].tolist() == many.facts["model"][:n].tolist()


def test_a_longer_set_begins_with_the_shorter(parameters: SynthesisParameters) -> None:
    week, day = (synthesize(parameters, n_devices=3, n_days=n, seed=3) for n in (2, 1))
    for device in range(3):
        for channel in week.channels():
            first_day = [(at_s, value) for at_s, value in events_of(week, channel, device) if at_s < 86_400]
            assert events_of(day, channel, device) == first_day


def test_another_seed_gives_other_phones(parameters: SynthesisParameters) -> None:
    a, b = (synthesize(parameters, n_devices=3, n_days=1, seed=seed) for seed in (1, 2))
    assert not same_events(a, b)


@pytest.mark.parametrize("numbers", [{"n_devices": 0, "n_days": 1}, {"n_devices": 1, "n_days": 0}])
def test_an_empty_set_is_refused(parameters: SynthesisParameters, numbers: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1"):
        synthesize(parameters, **numbers, seed=0)


# --- a plausible phone ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(parameters: SynthesisParameters) -> TraceSet:
    traces = synthesize(parameters, n_devices=40, n_days=3, seed=7)
    validate(traces, where="synthetic")
    return traces


def test_every_channel_is_known_from_the_first_midnight(made: TraceSet) -> None:
    for channel in ("network", "charging", "screen", "locked", "battery"):
        first = [events_of(made, channel, device)[0][0] for device in range(made.n)]
        assert set(first) == {0.0}, channel
    assert made.is_local.all()
    assert set(made.period_ms.tolist()) == {3 * DAY_MS}


def test_no_event_repeats_what_holds_already(made: TraceSet) -> None:
    for device in range(made.n):
        for channel in made.channels():
            values = [value for _, value in events_of(made, channel, device)]
            assert all(a != b for a, b in pairwise(values)), channel


def test_the_battery_rises_on_the_charger_and_falls_off_it(made: TraceSet) -> None:
    for device in range(made.n):
        at_s, level = np.array(events_of(made, "battery", device)).T
        plug_at_s, is_in = np.array(events_of(made, "charging", device)).T
        entry, last = (np.searchsorted(plug_at_s, t, side="right") - 1 for t in (at_s[:-1], at_s[1:]))
        change, is_one_state = np.diff(level), (entry == last) & ~np.isin(at_s[:-1], plug_at_s[1:])
        assert level.min() >= 0
        assert level.max() <= 100
        assert (change[is_one_state & (is_in[entry] == 1)] > 0).all()
        assert (change[is_one_state & (is_in[entry] == 0)] < 0).all()
        assert np.abs(change).max(initial=0.0) <= 4.0


def test_a_full_battery_stays_full_on_the_charger(parameters: SynthesisParameters) -> None:
    always = _with_plain_laws(_with_trait(parameters, charge_margin=100.0, charge_percent_per_h=30.0))
    traces = synthesize(always, n_devices=20, n_days=1, seed=1)
    levels, charging = (compile_channel(traces, name) for name in ("battery", "charging"))
    noon = np.full(20, DAY_MS // 2)
    is_in = charging.at(np.arange(20), noon) == 1
    assert is_in.sum() > 10
    assert np.median(levels.at(np.arange(20), noon)[is_in]) == 100.0


def test_the_keyguard_follows_the_screen(made: TraceSet) -> None:
    """It opens 10 s after the screen came on, if the screen is still on, and closes only as the screen changes."""
    for device in range(made.n):
        screen_at_s, is_on = np.array(events_of(made, "screen", device)).T
        for at_s, value in events_of(made, "locked", device)[1:]:
            if value == 1:
                assert at_s in screen_at_s
            else:
                entry = np.searchsorted(screen_at_s, at_s) - 1  # strictly before
                assert is_on[entry] == 1
                assert 9 <= at_s - screen_at_s[entry] <= 11  # both instants are whole seconds


def test_phones_that_never_lock_and_phones_that_always_do(parameters: SynthesisParameters) -> None:
    open_ = replace(_with_trait(parameters, lock_fraction=0.0, unlock_fraction=1.0), wake_lock_fraction=0.0)
    shut = _with_trait(parameters, lock_fraction=1.0, unlock_fraction=0.0)
    share = {
        name: stats.mean_share(_windows(synthesize(p, n_devices=20, n_days=3, seed=1), "locked"))
        for name, p in (("open", open_), ("shut", shut))
    }
    assert share["open"] < 0.1 < 0.9 < share["shut"]


def test_a_phone_without_wifi_is_never_on_wifi(parameters: SynthesisParameters) -> None:
    traces = synthesize(
        _with_trait(parameters, wifi_fraction=0.0, cellular_fraction=1.0), n_devices=5, n_days=2, seed=1
    )
    networks = {value for device in range(5) for _, value in events_of(traces, "network", device)}
    assert networks <= {float(NETWORK_CODE[name]) for name in ("2g", "3g", "4g")}


def test_radio_types_come_in_their_shares(parameters: SynthesisParameters) -> None:
    half = replace(parameters, cellular_fractions={"2g": 0.0, "3g": 0.5, "4g": 0.5})
    traces = synthesize(half, n_devices=60, n_days=3, seed=1)
    radios = [value for device in range(60) for _, value in events_of(traces, "network", device) if value >= 2]
    assert set(radios) == {float(NETWORK_CODE["3g"]), float(NETWORK_CODE["4g"])}
    assert 0.42 < np.mean(np.array(radios) == NETWORK_CODE["3g"]) < 0.58


@pytest.mark.parametrize("trait, rule", [("wifi_fraction", "network == wifi"), ("screen_fraction", "screen")])
def test_a_trait_sets_its_share_of_time(parameters: SynthesisParameters, trait: str, rule: str) -> None:
    """With all factors 1 and exponential-like laws the fraction comes out as it was asked for."""
    process = trait.removesuffix("_fraction")
    plain = _with_plain_laws(_with_trait(parameters, **{trait: 0.3, f"{process}_sessions_per_day": 40.0}))
    traces = synthesize(plain, n_devices=40, n_days=3, seed=5)
    assert stats.mean_share(_windows(traces, rule)) == pytest.approx(0.3, abs=0.03)
    sessions = len(_windows(traces, rule).start_ms) / (40 * 3)
    assert sessions == pytest.approx(40.0, rel=0.08)


def test_rare_sessions_of_any_length_come_at_their_rate_from_the_first_day_on(parameters: SynthesisParameters) -> None:
    """A walk that began with fresh stays would see too many changes at first: long stays are met in their middle."""
    plain = _with_plain_laws(_with_trait(parameters, wifi_fraction=0.5, wifi_sessions_per_day=0.2))
    heavy = (0.001,) * 6 + (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 20.0, 50.0, 50.0)
    stay = np.array(heavy) / np.sum(segment_means(np.array(heavy)) * np.diff(DURATION_PROBABILITIES))
    laws = {
        name: replace(law, relative_duration_quantiles=tuple(stay.tolist())) if name.startswith("wifi") else law
        for name, law in plain.laws.items()
    }
    traces = synthesize(replace(plain, laws=laws), n_devices=400, n_days=1, seed=5)
    windows = _windows(traces, "network == wifi")
    n_begun = np.count_nonzero(windows.start_ms > 0)
    assert n_begun / 400 == pytest.approx(0.2, abs=0.06)
    assert stats.mean_share(windows) == pytest.approx(0.5, abs=0.07)


def test_hour_factors_move_changes_to_their_hour(parameters: SynthesisParameters) -> None:
    plain = _with_plain_laws(_with_trait(parameters, wifi_fraction=0.5, wifi_sessions_per_day=4.0))
    at_noon = tuple(20.0 if hour == 12 else 0.05 for hour in range(24))
    laws = {**plain.laws, "wifi off": replace(plain.laws["wifi off"], hour_factors=at_noon)}
    traces = synthesize(replace(plain, laws=laws), n_devices=40, n_days=3, seed=5)
    starts = _windows(traces, "network == wifi").start_ms // 3_600_000 % 24
    assert np.mean(starts == 12) > 0.6


def test_a_context_factor_speeds_the_change_up_while_the_other_process_is_on(parameters: SynthesisParameters) -> None:
    plain = _with_plain_laws(_with_trait(parameters, screen_fraction=0.5, screen_sessions_per_day=40.0))
    law = plain.laws["screen on"]
    fast = replace(law, context_factors={**law.context_factors, "charging": (1.0, 8.0)})
    traces = synthesize(replace(plain, laws={**plain.laws, "screen on": fast}), n_devices=40, n_days=3, seed=5)
    both, charging, on = (stats.mean_share(_windows(traces, t)) for t in ("screen & charging", "charging", "screen"))
    assert both / charging < 0.3 < 0.4 < (on - both) / (1 - charging)


def test_a_level_factor_sends_empty_phones_to_the_charger(parameters: SynthesisParameters) -> None:
    plain = _with_plain_laws(parameters)
    urgent = replace(plain.laws["charging off"], level_factors=(50.0, 1.0, 1.0, 1.0, 1.0))
    eager = replace(plain, laws={**plain.laws, "charging off": urgent})
    low = [
        stats.mean_share(_windows(synthesize(p, n_devices=40, n_days=3, seed=5), "battery < 15"))
        for p in (plain, eager)
    ]
    assert low[1] < 0.5 * low[0]


def _windows(traces: TraceSet, text: str) -> stats.Windows:
    return compile_rule(traces, Rule.parse(text), unknown="ineligible")


def _with_trait(parameters: SynthesisParameters, **values: float) -> SynthesisParameters:
    """All phones alike in some traits."""
    traits = {name: replace(parameters.traits[name], quantiles=(value,) * 11) for name, value in values.items()}
    return replace(parameters, traits={**parameters.traits, **traits})


def _with_plain_laws(parameters: SynthesisParameters) -> SynthesisParameters:
    """Stays spread around a mean of 1, no factor of anything."""
    stay = 0.1 + 1.8 * np.array(DURATION_PROBABILITIES)
    stay /= np.sum(segment_means(stay) * np.diff(DURATION_PROBABILITIES))
    laws = {
        name: replace(
            parameters.laws[name],
            relative_duration_quantiles=tuple(stay.tolist()),
            hour_factors=(1.0,) * 24,
            level_factors=(1.0,) * 5,
            context_factors=dict.fromkeys(parameters.laws[name].context_factors, (1.0, 1.0)),
        )
        for name in LAWS
    }
    return replace(parameters, laws=laws)
