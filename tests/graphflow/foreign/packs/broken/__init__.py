"""A pack that needs something that is not there."""

import a_package_that_does_not_exist  # noqa: F401
