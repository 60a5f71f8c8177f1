"""No address shows its password, and nothing else is changed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ambient_ray.redaction import redacted, without_secrets


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://me:pw@host/db", "postgresql://me:***@host/db"),
        ("postgresql+psycopg2://me:p@w@host:5432/db", "postgresql+psycopg2://me:***@host:5432/db"),
        ("postgresql://me:pa/ss@host/db", "postgresql://me:***@host/db"),  # as SQLAlchemy reads it
        ("postgresql://:pw@host/db", "postgresql://:***@host/db"),
        ("https://me:pw@host:5000/models:/faces@champion", "https://me:***@host:5000/models:/faces@champion"),
        ("s3://bucket/x?secret_key=abc&region=eu", "s3://bucket/x?secret_key=***&region=eu"),
        ("s3://KEY:SECRET@bucket/x?access_key=abc", "s3://KEY:***@bucket/x?access_key=***"),
        ("postgresql://host/db?user=me&password=pw", "postgresql://host/db?user=me&password=***"),
        ("at http://a:b@c, then https://d:e@f.", "at http://a:***@c, then https://d:***@f."),
        ("'storage=postgresql://me:pw@host/db'", "'storage=postgresql://me:***@host/db'"),
    ],
)
def test_passwords_are_hidden(given, shown):
    assert redacted(given) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://host:5000/models:/faces@champion",
        "http://[::1]:5000/a@b",
        "postgresql://me@host:5432/db",
        "sqlite:////data/outputs/mlflow.db",
        "journal:/data/study.journal",
        "mail me@example.org about 3:4@5",
        "",
    ],
)
def test_what_has_no_password_stays(text):
    assert redacted(text) == text


SECRETS = st.text(st.characters(codec="ascii", exclude_characters="@/*", exclude_categories=["Zs", "Cc"]), min_size=6)


@given(SECRETS, st.sampled_from(["postgresql", "https", "s3", "mysql+pymysql"]))
def test_no_password_survives_whatever_it_is_made_of(secret, scheme):
    secret = f"Zq7{secret}"
    assert secret not in redacted(f"error: cannot open {scheme}://user:{secret}@host/db: refused")


def test_settings_keep_their_shape():
    settings = {
        "tracking": {"uri": "http://a:b@c"},
        "trial": {"rungs": [1, 2]},
        "n": 3,
        "none": None,
        "l": ["x://a:b@c"],
    }
    assert without_secrets(settings) == {
        "tracking": {"uri": "http://a:***@c"}, "trial": {"rungs": [1, 2]}, "n": 3, "none": None, "l": ["x://a:***@c"],
    }  # fmt: skip
