import shutil

from tieout.breaks.inputs import configured_definition
from tieout.settings import SHIPPED_CONFIG, Settings

LAGS = "lags:\n  - {type: missing_right, days: 1"


def test_business_days_are_the_legal_entities_unless_the_definition_names_its_own(tmp_path):
    shutil.copytree(SHIPPED_CONFIG, tmp_path / "config")
    settings = Settings(tmp_path, tmp_path / "config", "", "")
    file = tmp_path / "config" / "reconciliations" / "invoice_to_receivable.yaml"
    shipped = file.read_text()
    assert LAGS in shipped
    assert configured_definition(settings, "invoice_to_receivable").calendars == {}
    file.write_text(shipped.replace(LAGS, "calendars: {DE: {country: AT}}\n" + LAGS + ", count: business"))
    places = configured_definition(settings, "invoice_to_receivable").calendars
    assert {name: place.country for name, place in places.items()} == {"US": "US", "DE": "AT", "JP": "JP"}
    assert places["US"].region == "CA"
