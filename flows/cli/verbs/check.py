"""`al-engine check`."""

from typing import TYPE_CHECKING

from flows.cli.options import AsJson, Target, answer

if TYPE_CHECKING:
    from flows.session.preflight import Preflight


def check(target: Target, as_json: AsJson = False) -> None:
    """Validate a config, try it on this machine, and estimate what the campaign costs. Changes nothing."""
    from flows.cli.check import check_text, measure_cost
    from flows.pages.display import Display
    from flows.session.preflight import preflight
    from flows.session.prepare import load_target

    config, base_dir = load_target(target)
    with Display(quiet=as_json) as display:
        with display.step("checking") as progress:
            checked = preflight(config, base_dir=base_dir, progress=progress)
        with display.step("measuring") as progress:
            cost = measure_cost(checked, progress)
    result = {
        "target": str(target),
        "campaign": config.name,
        "level_of_theory": checked.level.to_dict(),
        "initial_source": _initial_source(checked),
        "notes": list(checked.notes),
        **cost.to_dict(),
    }
    answer(result, f"{target} is valid\n{check_text(checked, cost)}", as_json=as_json)


def _initial_source(checked: "Preflight") -> object:
    """Source of the initial frames; for each system, if there are several."""
    sources = {system.config.system_name: system.config.initial.source for system in checked.systems}
    return sources if checked.config.systems else sources[""]
