"""The org's objects: each field with its Salesforce type; `describe` and SOQL read the same table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# soapType, length, precision, scale of each type; what a describe says of the rest follows from the type alone.
_TYPES: dict[str, tuple[str, int, int, int]] = {
    "id": ("tns:ID", 18, 0, 0),
    "reference": ("tns:ID", 18, 0, 0),
    "string": ("xsd:string", 255, 0, 0),
    "textarea": ("xsd:string", 32000, 0, 0),
    "picklist": ("xsd:string", 255, 0, 0),
    "url": ("xsd:string", 255, 0, 0),
    "boolean": ("xsd:boolean", 0, 0, 0),
    "currency": ("xsd:double", 0, 18, 2),
    "double": ("xsd:double", 0, 18, 2),
    "percent": ("xsd:double", 0, 18, 2),
    "int": ("xsd:int", 0, 0, 0),
    "date": ("xsd:date", 0, 0, 0),
    "datetime": ("xsd:dateTime", 0, 0, 0),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `refers` names the object a reference points to."""

    name: str
    type: str
    label: str = ""
    refers: str = ""
    nillable: bool = True

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")


@dataclass(frozen=True, slots=True)
class SObject:
    """One object of the org; `prefix` starts the ids of its records."""

    name: str
    label: str
    plural: str
    prefix: str
    fields: tuple[Field, ...]

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    def field(self, name: str) -> Field | None:
        """A field by its name in any case, as SOQL reads it."""
        return next((f for f in self.fields if f.name.lower() == name.lower()), None)


def _fields(spec: str) -> tuple[Field, ...]:
    """`Name:string ParentId:reference>Account` as fields."""
    made = []
    for part in spec.split():
        name, kind = part.split(":")
        kind, _, refers = kind.partition(">")
        made.append(Field(name, kind, refers=refers))
    return tuple(made)


_SYSTEM = (
    Field("Id", "id", "Record ID", nillable=False),
    Field("IsDeleted", "boolean", "Deleted", nillable=False),
    Field("Name", "string", "Name", nillable=False),
    Field("CurrencyIsoCode", "picklist", "Currency ISO Code"),
    Field("CreatedDate", "datetime", "Created Date", nillable=False),
    Field("CreatedById", "reference", "Created By ID", "User", nillable=False),
    Field("LastModifiedDate", "datetime", "Last Modified Date", nillable=False),
    Field("LastModifiedById", "reference", "Last Modified By ID", "User", nillable=False),
    Field("SystemModstamp", "datetime", "System Modstamp", nillable=False),
    Field("OwnerId", "reference", "Owner ID", "User"),
)


def _object(name: str, label: str, plural: str, prefix: str, spec: str, without: str = "") -> SObject:
    system = tuple(f for f in _SYSTEM if f.name not in without.split())
    return SObject(name, label, plural, prefix, system + _fields(spec))


SOBJECTS: dict[str, SObject] = {
    o.name: o
    for o in (
        _object(
            "Account",
            "Account",
            "Accounts",
            "001",
            "ParentId:reference>Account Type:picklist Industry:picklist Website:url BillingCountry:string "
            "Status__c:picklist Billing_Entity__c:picklist",
        ),
        _object(
            "Product2",
            "Product",
            "Products",
            "01t",
            "ProductCode:string Description:textarea Family:picklist IsActive:boolean StockKeepingUnit:string "
            "QuantityUnitOfMeasure:picklist SBQQ__ChargeType__c:picklist SBQQ__SubscriptionPricing__c:picklist "
            "Meter__c:string Support_Level__c:picklist",
            without="OwnerId",
        ),
        _object(
            "Opportunity",
            "Opportunity",
            "Opportunities",
            "006",
            "AccountId:reference>Account StageName:picklist Amount:currency CloseDate:date Type:picklist "
            "IsClosed:boolean IsWon:boolean SBQQ__PrimaryQuote__c:reference>SBQQ__Quote__c",
        ),
        _object(
            "Contract",
            "Contract",
            "Contracts",
            "800",
            "AccountId:reference>Account ContractNumber:string Status:picklist StatusCode:picklist StartDate:date "
            "EndDate:date ContractTerm:int SBQQ__Quote__c:reference>SBQQ__Quote__c "
            "SBQQ__Opportunity__c:reference>Opportunity Legal_Entity__c:picklist",
            without="Name",
        ),
        _object(
            "SBQQ__Quote__c",
            "Quote",
            "Quotes",
            "a0Q",
            "SBQQ__Account__c:reference>Account SBQQ__Opportunity2__c:reference>Opportunity SBQQ__Status__c:picklist "
            "SBQQ__Type__c:picklist SBQQ__Primary__c:boolean SBQQ__StartDate__c:date SBQQ__EndDate__c:date "
            "SBQQ__NetAmount__c:currency SBQQ__MasterContract__c:reference>Contract Legal_Entity__c:picklist",
        ),
        _object(
            "SBQQ__QuoteLine__c",
            "Quote Line",
            "Quote Lines",
            "a0T",
            "SBQQ__Quote__c:reference>SBQQ__Quote__c SBQQ__Product__c:reference>Product2 SBQQ__Quantity__c:double "
            "SBQQ__NetPrice__c:currency SBQQ__NetTotal__c:currency",
            without="OwnerId",
        ),
        _object(
            "SBQQ__Subscription__c",
            "Subscription",
            "Subscriptions",
            "a0X",
            "SBQQ__Account__c:reference>Account SBQQ__Contract__c:reference>Contract "
            "SBQQ__Product__c:reference>Product2 SBQQ__Quantity__c:double SBQQ__NetPrice__c:currency "
            "SBQQ__SubscriptionStartDate__c:date SBQQ__SubscriptionEndDate__c:date SBQQ__TerminatedDate__c:date "
            "SBQQ__RevisedSubscription__c:reference>SBQQ__Subscription__c SBQQ__RootId__c:string "
            "SBQQ__BillingFrequency__c:picklist Is_Trial__c:boolean Support_Level__c:picklist "
            "Legal_Entity__c:picklist",
        ),
        _object(
            "Entitlement",
            "Entitlement",
            "Entitlements",
            "550",
            "AccountId:reference>Account Type:picklist StartDate:date EndDate:date Status:picklist "
            "Contract_Line__c:string Support_Level__c:picklist Legal_Entity__c:picklist",
            without="OwnerId",
        ),
    )
}


def find(name: str) -> SObject | None:
    """An object by its name in any case."""
    return next((o for o in SOBJECTS.values() if o.name.lower() == name.lower()), None)


def describe(sobject: SObject, base: str) -> dict[str, Any]:
    """The full describe of one object (key set as Salesforce answers it)."""
    return {
        "actionOverrides": [],
        **_flags(sobject),
        "childRelationships": _children(sobject),
        "defaultImplementation": None,
        "extendedBy": None,
        "extendsInterfaces": None,
        "fields": [_describe_field(f) for f in sobject.fields],
        "implementedBy": None,
        "implementsInterfaces": None,
        "listviewable": None,
        "lookupLayoutable": None,
        "namedLayoutInfos": [],
        "networkScopeFieldName": None,
        "recordTypeInfos": [],
        "searchLayoutable": True,
        "sobjectDescribeOption": "FULL",
        "supportedScopes": [{"label": f"All {sobject.plural.lower()}", "name": "everything"}],
        "compactLayoutable": True,
        "urls": _urls(sobject, base)
        | {"uiDetailTemplate": "/{ID}", "uiEditTemplate": "/{ID}/e", "uiNewRecord": f"/{sobject.prefix}/e"},
    }


def listing(base: str) -> dict[str, Any]:
    """The describe of the whole org."""
    objects = [_flags(o) | {"urls": _urls(o, base)} for o in SOBJECTS.values()]
    return {"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": objects}


def basic(sobject: SObject, base: str) -> dict[str, Any]:
    """What `/sobjects/{name}` answers."""
    return {"objectDescribe": _flags(sobject) | {"urls": _urls(sobject, base)}, "recentItems": []}


def _flags(sobject: SObject) -> dict[str, Any]:
    flags: dict[str, Any] = dict.fromkeys(
        [
            "createable",
            "deletable",
            "feedEnabled",
            "layoutable",
            "mruEnabled",
            "queryable",
            "replicateable",
            "retrieveable",
            "searchable",
            "triggerable",
            "undeletable",
            "updateable",
        ],
        True,
    )
    flags |= dict.fromkeys(
        [
            "activateable",
            "customSetting",
            "deepCloneable",
            "deprecatedAndHidden",
            "hasSubtypes",
            "isInterface",
            "isSubtype",
            "mergeable",
        ],
        False,
    )
    return flags | {
        "associateEntityType": None,
        "associateParentEntity": None,
        "custom": sobject.custom,
        "keyPrefix": sobject.prefix,
        "label": sobject.label,
        "labelPlural": sobject.plural,
        "name": sobject.name,
    }


def _urls(sobject: SObject, base: str) -> dict[str, str]:
    here = f"{base}/sobjects/{sobject.name}"
    return {
        "approvalLayouts": f"{here}/describe/approvalLayouts",
        "compactLayouts": f"{here}/describe/compactLayouts",
        "defaultValues": f"{here}/defaultValues?recordTypeId&fields",
        "describe": f"{here}/describe",
        "layouts": f"{here}/describe/layouts",
        "listviews": f"{here}/listviews",
        "quickActions": f"{here}/quickActions",
        "rowTemplate": f"{here}/{{ID}}",
        "sobject": here,
    }


def _children(sobject: SObject) -> list[dict[str, Any]]:
    return [
        {
            "cascadeDelete": False,
            "childSObject": other.name,
            "deprecatedAndHidden": False,
            "field": f.name,
            "junctionIdListNames": [],
            "junctionReferenceTo": [],
            "relationshipName": None,
            "restrictedDelete": False,
        }
        for other in SOBJECTS.values()
        for f in other.fields
        if f.refers == sobject.name
    ]


def _describe_field(f: Field) -> dict[str, Any]:
    soap_type, length, precision, scale = _TYPES[f.type]
    system = f.name in {s.name for s in _SYSTEM} - {"Name", "CurrencyIsoCode", "OwnerId"}
    text = f.type in ("string", "textarea", "picklist", "url")
    relation = f.name.removesuffix("Id") if f.type == "reference" else None
    if relation and relation.endswith("__c"):
        relation = relation.removesuffix("__c") + "__r"
    false = dict.fromkeys(
        [
            "aiPredictionField",
            "autoNumber",
            "calculated",
            "cascadeDelete",
            "caseSensitive",
            "dependentPicklist",
            "deprecatedAndHidden",
            "displayLocationInDecimal",
            "encrypted",
            "externalId",
            "formulaTreatNullNumberAsZero",
            "highScaleNumber",
            "htmlFormatted",
            "namePointing",
            "polymorphicForeignKey",
            "queryByDistance",
            "restrictedDelete",
            "restrictedPicklist",
            "searchPrefilterable",
            "unique",
            "writeRequiresMasterRead",
        ],
        False,
    )
    none = dict.fromkeys(
        [
            "calculatedFormula",
            "compoundFieldName",
            "controllerName",
            "defaultValue",
            "defaultValueFormula",
            "extraTypeInfo",
            "filteredLookupInfo",
            "inlineHelpText",
            "mask",
            "maskType",
            "referenceTargetField",
            "relationshipOrder",
        ]
    )
    return (
        false
        | none
        | {
            "aggregatable": f.type not in ("boolean", "textarea"),
            "byteLength": length * 3 if text else length,
            "createable": not system,
            "custom": f.custom,
            "defaultedOnCreate": system,
            "digits": 0,
            "filterable": f.type != "textarea",
            "groupable": f.type not in ("currency", "double", "percent", "datetime", "textarea"),
            "idLookup": f.type == "id",
            "label": f.label or f.name,
            "length": length,
            "name": f.name,
            "nameField": f.name == "Name",
            "nillable": f.nillable,
            "permissionable": not system,
            "picklistValues": [],
            "precision": precision,
            "referenceTo": [f.refers] if f.refers else [],
            "relationshipName": relation,
            "scale": scale,
            "soapType": soap_type,
            "sortable": f.type != "textarea",
            "type": f.type,
            "updateable": not system,
        }
    )
