"""Fill an initialised Tryton database: currencies, companies, charts, journals, fiscal years, users.

Runs in the ERP's own environment, as `bootstrap.py <database> <tryton.conf> <last fiscal year>`.
"""

from __future__ import annotations

import datetime as dt
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

from proteus import Model
from proteus import config as proteus_config

sys.path.insert(0, str(Path(__file__).parent))
import chart

ALL = ("read", "write", "create", "delete")
# what the poster may do: write and post moves; read what it needs to check them; nothing that opens or closes
POSTER_RIGHTS: dict[str, tuple[str, ...]] = {
    "account.move": ALL,
    "account.journal.period": ("read", "create"),
    "account.general_ledger.account": ("read",),
    "analytic_account.line": ALL,
}
READABLE_FIELDS = {"account.account": ("balance", "debit", "credit")}


def main(database: str, conf: str, last_year: int) -> None:
    """Everything at once, in one transaction per record."""
    config = proteus_config.set_trytond(database, user="admin", config_file=conf)
    currencies = make_currencies()
    companies = make_companies(currencies)
    User = Model.get("res.user")
    (admin,) = User.find([("login", "=", "admin")])
    for company in companies:
        admin.companies.append(Model.get("company.company")(company.id))
    admin.company_filter = "all"  # otherwise only the user's current company can be written to
    admin.company = Model.get("company.company")(companies[0].id)
    admin.save()
    config._context = User.get_preferences(True, {})
    make_journals()
    for company in companies:
        with config.set_context(company=company.id):
            make_chart(company)
            make_dimensions(company)
            for year in range(chart.FIRST_FISCAL_YEAR, last_year + 1):
                make_fiscal_year(company, year, config)
    make_users(companies)


def make_currencies() -> dict[str, Any]:
    """The functional currencies; no rates, nothing is converted in the ERP."""
    Currency = Model.get("currency.currency")
    made = {}
    for code, (name, symbol, digits) in chart.CURRENCIES.items():
        made[code] = Currency(code=code, name=name, symbol=symbol, digits=digits, rounding=Decimal(1).scaleb(-digits))
        made[code].save()
    return made


def make_companies(currencies: dict[str, Any]) -> list[Any]:
    """One company per legal entity; its party's code is the entity's id."""
    Party, Company = Model.get("party.party"), Model.get("company.company")
    made = []
    for spec in chart.COMPANIES:
        party = Party(name=spec["name"], code=spec["id"])
        party.save()
        company = Company(party=party, currency=currencies[spec["currency"]], timezone=spec["zone"])
        company.save()
        made.append(company)
    return made


def make_journals() -> None:
    """Journals of our own, of the plain kind."""
    Journal = Model.get("account.journal")
    for code, name in chart.JOURNALS:
        Journal(code=code, name=name, type="general").save()


def make_chart(company: Any) -> None:
    """Account types (two levels, as statements need a root) and accounts under one root."""
    Type, Account = Model.get("account.account.type"), Model.get("account.account")
    roots, types = {}, {}
    for key, spec in chart.ACCOUNT_TYPES.items():
        statement = spec["statement"]
        if statement not in roots:
            roots[statement] = Type(name=str(statement).capitalize(), company=company, statement=statement)
            roots[statement].save()
        types[key] = Type(company=company, parent=roots[statement], **spec)
        types[key].save()
    root = Account(name="Chart of accounts", company=company)
    root.save()
    for code, name, kind in chart.ACCOUNTS:
        Account(code=code, name=name, company=company, parent=root, type=types[kind]).save()


def make_dimensions(company: Any) -> None:
    """An analytic root per dimension, an analytic account per value."""
    Analytic = Model.get("analytic_account.account")
    for dimension, values in chart.DIMENSIONS.items():
        root = Analytic(name=dimension, code=dimension, type="root", company=company)
        root.save()
        for value in values:
            code = f"{dimension}:{value}"
            Analytic(name=value, code=code, type="normal", company=company, root=root, parent=root).save()


def make_fiscal_year(company: Any, year: int, config: Any) -> None:
    """A calendar year of monthly periods, its moves numbered without gaps."""
    FiscalYear = Model.get("account.fiscalyear")
    Sequence, SequenceType = Model.get("ir.sequence.strict"), Model.get("ir.sequence.type")
    (kind,) = SequenceType.find([("name", "=", "Account Move")], limit=1)
    sequence = Sequence(
        name=f"Moves {year}", sequence_type=kind, company=company, prefix=f"{company.party.code}-{year}-", padding=6
    )
    sequence.save()
    fiscal_year = FiscalYear(
        name=str(year),
        company=company,
        start_date=dt.date(year, 1, 1),
        end_date=dt.date(year, 12, 31),
        move_sequence=sequence,
    )
    fiscal_year.save()
    FiscalYear.create_period([fiscal_year.id], config.context)


def make_users(companies: list[Any]) -> None:
    """The poster with its few rights, the accountant with an accountant's; passwords come at every start."""
    Group, Access = Model.get("res.group"), Model.get("ir.model.access")
    FieldAccess = Model.get("ir.model.field.access")
    posting = Group(name="Tieout posting")
    posting.save()
    for name, rights in POSTER_RIGHTS.items():
        Access(model=name, group=posting, **{f"perm_{right}": right in rights for right in ALL}).save()
    for name, fields in READABLE_FIELDS.items():
        for field in fields:
            FieldAccess(model=name, field=field, group=posting, perm_read=True).save()
    (accounting,) = Group.find([("name", "=", "Accounting")])
    make_user(chart.POSTER, [posting], companies)
    make_user(chart.ACCOUNTANT, [accounting], companies)


def make_user(login: str, groups: list[Any], companies: list[Any]) -> None:
    """A user who sees every company and cannot log in yet."""
    Company, Group, User = Model.get("company.company"), Model.get("res.group"), Model.get("res.user")
    user = User(login=login, name=login, email=f"{login}@example.com")
    for company in companies:
        user.companies.append(Company(company.id))
    user.company_filter = "all"
    user.company = Company(companies[0].id)
    for group in groups:
        user.groups.append(Group(group.id))
    user.save()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
