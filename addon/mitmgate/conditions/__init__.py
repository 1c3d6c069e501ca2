"""Conditions of the rules (`when:`): CEL, compiled at load, typed against what a request has.

The evaluator is cel-cpp in cel-expr-python (decision 013): it checks types when it compiles and bounds iterations when
it runs. What it does not bound is bounded here at load: the length, the nesting of `all`, `exists` and such, text that is
joined inside them, and regular expressions.

`condition` compiles, by the names in `fields`, within `bounds`, and says in the words of `wording` what is wrong;
`facts` is what conditions read of one request. Source: the CEL specification.
"""
