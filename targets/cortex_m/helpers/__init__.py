"""Bodies of the ``tinyml_*`` helpers: ``helpers.h`` for the C form, ``*.ll`` for the object form."""
